"""The companion files of a checkpoint's weights: configuration, statistics and tokenizer. They affect actions, too."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from sqap_vla_ros.vlm.checkpoint import Checkpoint
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE
from sqap_vla_ros.vlm.tokenizer import find_tokenizer


def read_companions(checkpoint: Checkpoint, tokenizer: Path | None) -> dict[str, bytes]:
    """Read the companion files, by file name.

    Args:
        checkpoint: Checkpoint whose companion files are read.
        tokenizer: Directory of the Llama-2 tokenizer; None: the checkpoint's directory.

    Raises:
        TokenizerError: There is no tokenizer.
    """
    names = ("config.json", STATISTICS_FILE)
    paths = (*(checkpoint.directory / name for name in names), find_tokenizer(checkpoint.directory, tokenizer))
    return {path.name: path.read_bytes() for path in paths}


def companion_hashes(checkpoint: Checkpoint, tokenizer: Path | None) -> dict[str, str]:
    """Return the SHA-256 of each companion file, by file name; arguments and errors as in `read_companions`."""
    return hashes(read_companions(checkpoint, tokenizer))


def hashes(contents: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each content."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
