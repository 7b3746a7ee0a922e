"""A small tokenizer in place of Llama-2's, for small models that are trained here or random.

The published tokenizer is gated. This one has its format (byte-pair encoding, blanks as ▁, byte fallback) and its
special ids, but only the words that it was trained on; everything else is encoded as letters and bytes.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.vlm.tokenizer import BLANK_ID, TOKENIZER_FILE, prompt

_VOCABULARY = 32000
_LEARNED = 1000
_SPECIAL = ["<unk>", "<s>", "</s>"]
_BYTES = [f"<0x{value:02X}>" for value in range(256)]
_BLANK = "▁"


def write_small_tokenizer(directory: Path, instructions: Iterable[str]) -> None:
    """Train a tokenizer on instructions and write `tokenizer.json`.

    Args:
        directory: Existing directory of the file.
        instructions: The instructions that the model will get.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_BLANK), normalizers.Replace(" ", _BLANK)])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(_BLANK, "merged_with_next")
    # By lines: as in Llama-2, a line break is a byte, not a learned piece.
    lines = [line for instruction in instructions for line in prompt(instruction).splitlines()]
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=_LEARNED, show_progress=False))

    content = json.loads(tokenizer.to_str())
    learned = [piece for piece in content["model"]["vocab"] if piece != _BLANK]
    # Llama-2's ids: special pieces, bytes, what was learned; the blank at its own place; unused names elsewhere.
    names = [*_SPECIAL, *_BYTES, *learned]
    names += [f"<unused_{number}>" for number in range(len(names), _VOCABULARY)]
    names[BLANK_ID] = _BLANK
    content["model"]["vocab"] = {name: number for number, name in enumerate(names)}
    write_whole(directory / TOKENIZER_FILE, json.dumps(content, ensure_ascii=False).encode())
