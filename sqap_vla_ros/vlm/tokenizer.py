"""Turns an instruction into the token ids that the networks were trained on."""

from collections.abc import Iterable
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from torch import Tensor

BOS_ID = 1
BLANK_ID = 29871
COGNITION_ID = 2
PAD_ID = 32000
LLAMA_REPOSITORY = "meta-llama/Llama-2-7b-hf"
TOKENIZER_FILE = "tokenizer.json"
_MAX_LENGTH = 2048
# Llama-2's names of the ids above.
_PIECES = {BOS_ID: "<s>", COGNITION_ID: "</s>", BLANK_ID: "▁"}


class TokenizerError(Exception):
    """There is no usable tokenizer; the message says where to get one and how to pass it."""


def prompt(instruction: str) -> str:
    """The prompt for an instruction.

    Raises:
        ValueError: The instruction is empty.
    """
    if not instruction.strip():
        raise ValueError("the instruction is empty; describe the task in plain English")
    message = f"What action should the robot take to {instruction.lower()}?".replace("<image>", "").strip()
    return f"In: {message}\nOut:"


class PromptTokenizer:
    """Llama-2's tokenizer, with the blank and the cognition token that end each prompt.

    Args:
        path: Path of a `tokenizer.json`.

    Raises:
        TokenizerError: The file is not a tokenizer, or not Llama-2's.
    """

    def __init__(self, path: Path) -> None:
        # transformers takes seconds to import, which reading a policy's settings does not need.
        from transformers import PreTrainedTokenizerFast

        try:
            self._tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
        # The parser raises exceptions of type Exception.
        except Exception as error:
            raise TokenizerError(f"{path}: not a tokenizer: {error}. {_where()}") from None
        for number, piece in _PIECES.items():
            found = self._tokenizer.convert_ids_to_tokens(number)
            if found != piece:
                raise TokenizerError(f"{path}: id {number} is {found!r}, expected {piece!r} as in Llama-2. {_where()}")

    def encode(self, instruction: str) -> Tensor:
        """Token ids of an instruction.

        Returns:
            int64 (1, text): BOS, the prompt, the blank and the cognition token.

        Raises:
            ValueError: The instruction is empty.
        """
        return torch.tensor([[*self.encode_text(prompt(instruction)), BLANK_ID, COGNITION_ID]])

    def encode_text(self, text: str) -> list[int]:
        """BOS and the token ids of a text."""
        return [BOS_ID, *self._tokenizer(text, add_special_tokens=False)["input_ids"]][:_MAX_LENGTH]

    def encode_batch(self, instructions: Iterable[str]) -> tuple[Tensor, Tensor]:
        """Token ids of several instructions, padded on the right.

        Returns:
            int64 (batch, text), and bool (batch, text), which ids are not padding.
        """
        rows = [self.encode(instruction)[0] for instruction in instructions]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD_ID)
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(ids.shape[1]) < lengths[:, None]


def find_tokenizer(checkpoint_directory: Path, directory: Path | None = None) -> Path:
    """Find the tokenizer's file: in the given directory, else in the checkpoint's run directory, else on the Hub.

    The Hub's gated repository is asked unless Hub access is switched off (`HF_HUB_OFFLINE`).

    Args:
        checkpoint_directory: Run directory of the checkpoint.
        directory: A directory with Llama-2's `tokenizer.json`.

    Raises:
        TokenizerError: There is none; the message says where to ask for it and how to pass it.
    """
    place = directory if directory is not None else checkpoint_directory
    if (place / TOKENIZER_FILE).is_file():
        return place / TOKENIZER_FILE
    if directory is not None:
        raise TokenizerError(f"{directory}: no {TOKENIZER_FILE} there. {_where()}")
    if constants.HF_HUB_OFFLINE:
        raise TokenizerError(f"no {TOKENIZER_FILE} in {checkpoint_directory}, and HF_HUB_OFFLINE is set. {_where()}")
    try:
        # Without a network, hf_hub_download would retry for half a minute.
        snapshot = huggingface_hub.snapshot_download(LLAMA_REPOSITORY, allow_patterns=[TOKENIZER_FILE])
        return Path(snapshot) / TOKENIZER_FILE
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = type(error).__name__
        raise TokenizerError(
            f"no {TOKENIZER_FILE} in {checkpoint_directory}, and the Hub did not give it ({reason}). {_where()}"
        ) from None


def load_tokenizer(checkpoint_directory: Path, directory: Path | None = None) -> PromptTokenizer:
    """The tokenizer that `find_tokenizer` finds.

    Raises:
        TokenizerError: There is none, or it is not Llama-2's.
    """
    return PromptTokenizer(find_tokenizer(checkpoint_directory, directory))


def _where() -> str:
    return (
        f"Ask for access to {LLAMA_REPOSITORY} on the Hugging Face Hub, download its {TOKENIZER_FILE}, and put it into "
        "the checkpoint's run directory or pass its directory with --tokenizer DIR"
    )
