"""What can be said of an instruction before anything is planned by it."""

_ENGLISH_PUNCTUATION = "‘’“”–—…°±×"


def warning_about(instruction: str) -> str:
    """A sentence about an instruction that is not English, as far as its letters show; empty if there is none."""
    foreign = [char for char in instruction if not char.isascii() and char not in _ENGLISH_PUNCTUATION]
    if not foreign:
        return ""
    found = "".join(dict.fromkeys(foreign))[:12]
    return (
        f"the instruction “{instruction}” is not plain English ({found}); the policy was trained on English "
        "instructions, and may do anything with others"
    )
