"""Greedy generation of action tokens with a key-value cache: what plain OpenVLA does in place of a head."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla_ros.policies.openvla.bins import TokenHead
from sqap_vla_ros.vlm.attention import attend, rotary_tables
from sqap_vla_ros.vlm.language import LanguageModel
from sqap_vla_ros.vlm.layers import BeforeLayer, causal_attention

END_ID = 2


@dataclass(frozen=True)
class Generated:
    """Tokens that were generated.

    Attributes:
        ids: int64 (count,).
        logits: (count, vocabulary), which each token was chosen by.
        hidden: (count, width), the final norm's output that each token was chosen by.
    """

    ids: Tensor
    logits: Tensor
    hidden: Tensor


class _Cache:
    """Keys and values of all positions so far, layer by layer; the attention of a prefill and of the steps after it."""

    def __init__(self) -> None:
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._next: int | None = None

    def step(self) -> None:
        """Begin a step of one position, which goes through all layers again."""
        self._next = 0

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, only: Tensor | None) -> Tensor:
        """See `layers.Attention`."""
        if self._next is None:
            self._layers.append((keys, values))
            return causal_attention(queries, keys, values, only)
        earlier = self._layers[self._next]
        keys, values = torch.cat((earlier[0], keys), dim=2), torch.cat((earlier[1], values), dim=2)
        self._layers[self._next] = keys, values
        self._next += 1
        return attend(queries, keys, values, causal=False)


def generate(
    language: LanguageModel, head: TokenHead, embeddings: Tensor, count: int, before_layer: BeforeLayer | None = None
) -> Generated:
    """Generate tokens, the most probable one of the whole vocabulary each time.

    Args:
        language: The language model.
        head: Its output projection.
        embeddings: (1, positions, width), the sequence so far.
        count: Number of tokens.
        before_layer: Called in front of each layer of the prefill; it may drop positions.

    Raises:
        ValueError: The model ends its answer before the last token.
    """
    cache = _Cache()
    position = embeddings.shape[1]
    last = torch.tensor([position - 1], device=embeddings.device)
    hidden = language.run_layers(embeddings, last=last, before_layer=before_layer, attention=cache.attend)
    rows, chosen = [], []
    while True:
        rows.append(language.norm(hidden)[0, -1])
        chosen.append(head(rows[-1]))
        token = chosen[-1].argmax()
        if int(token) == END_ID:
            raise ValueError(f"the model ended its answer after {len(rows) - 1} of {count} action tokens")
        if len(rows) == count:
            break
        # Positions follow on from the whole sequence, also when some of it was dropped.
        rotations = rotary_tables(
            torch.tensor([[position]], device=embeddings.device), language.shape.head_width, embeddings.dtype
        )
        position += 1
        cache.step()
        hidden = language.run_layers(
            language.embed_tokens(token[None, None]), rotations=rotations, attention=cache.attend
        )
    logits = torch.stack(chosen)
    return Generated(logits.argmax(-1), logits, torch.stack(rows))
