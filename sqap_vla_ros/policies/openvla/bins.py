"""Action tokens: the last ids before the padding of Llama's vocabulary stand for 255 bins of a normalised action."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sqap_vla_ros.vlm.weights import Part, Source

VOCABULARY = 32000
EDGES: NDArray[np.float64] = np.linspace(-1, 1, 256)
CENTRES: NDArray[np.float64] = (EDGES[:-1] + EDGES[1:]) / 2


def decode_tokens(ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Normalised actions of token ids; ids beyond the bins count as the nearest bin.

    Args:
        ids: int64, any shape: the smaller the id, the larger the action.

    Returns:
        float64, the same shape, centres of bins.
    """
    return CENTRES[np.clip(VOCABULARY - ids - 1, 0, len(CENTRES) - 1)]


def encode_actions(actions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Token ids of normalised actions, which are clipped to ±1: int64, the same shape."""
    return VOCABULARY - np.digitize(np.clip(actions, -1, 1), EDGES)


class TokenHead(nn.Module):
    """The language model's output projection; ids are chosen among the whole vocabulary, as in the reference."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., width) -> logits (..., vocabulary)."""
        return self.lm_head(hidden)


def load_token_head(part: Part, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> TokenHead:
    """Build the output projection from the `llm_backbone` part of a checkpoint.

    Raises:
        CheckpointError: There is none.
    """
    name = "llm.lm_head.weight"
    vocabulary, width = (part.size(name, axis, 2) for axis in (0, 1))
    with torch.device("meta"):
        head = TokenHead(vocabulary, width)
    part.load(head, lambda _: Source(name), dtype, device)
    return head
