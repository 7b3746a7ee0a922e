"""VLA-Cache's prefill: keys and values of visual tokens that did not change come from the previous frame.

Such a token leaves the residual stream before some layer; from there on its keys and values are those of the last
frame that computed them, at the position that they had. No text is kept: visual tokens stand before it and never see
it, so that the cache holds whatever the instruction is.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.config.pruning import VlaCacheConfig
from sqap_vla_ros.vlm.attention import attend, attention_rows, finish_layer, project_heads, rotary_tables
from sqap_vla_ros.vlm.language import LanguageModel, Prefill
from sqap_vla_ros.vlm.pruning.vla_cache import patch_similarity, reusable_tokens, reuse_shares


@dataclass(frozen=True)
class _Frame:
    """What the next frame may use of this one.

    Attributes:
        image: uint8 (side, side, 3), the model image.
        cache: Keys and values (1, key-value heads, visual, head width) of the visual tokens, per layer.
        relevance: float32 (visual,), the text's attention to the visual tokens.
        shares: float64 (layers,), share of the reusable tokens that each layer reuses.
    """

    image: NDArray[np.uint8]
    cache: list[tuple[Tensor, Tensor]]
    relevance: NDArray[np.float32]
    shares: NDArray[np.float64]


class FrameReuse:
    """The previous frame of one stream of images, and the prefill that uses it.

    Args:
        config: What counts as unchanged, and where tokens leave.

    Attributes:
        reused: int64 (n,), visual tokens that the last prefill took from the frame before in some layers, ascending.
    """

    def __init__(self, config: VlaCacheConfig) -> None:
        self._config = config
        self._previous: _Frame | None = None
        self.reused: NDArray[np.int64] = np.zeros(0, np.int64)

    def reset(self) -> None:
        """Forget the previous frame: the next prefill computes everything."""
        self._previous = None

    def prefill(
        self, language: LanguageModel, inputs_embeds: Tensor, visual_tokens: int, image: NDArray[np.uint8]
    ) -> Prefill:
        """Run all layers on one frame, and remember it.

        Args:
            language: The same for all frames.
            inputs_embeds: (1, positions, width), as `LanguageModel.embed` makes them.
            visual_tokens: How many visual tokens follow the first position.
            image: uint8 (side, side, 3), the model image that the visual tokens come from.

        Raises:
            ValueError: More than one sample.
        """
        batch, count, _ = inputs_embeds.shape
        if batch != 1:
            raise ValueError(f"{batch} samples: frames follow one another, so they are reused one at a time")
        previous, head_width, final = self._previous, language.shape.head_width, len(language.layers) - 1
        reusable = self._reusable(image, visual_tokens)
        positions = torch.arange(count, device=inputs_embeds.device)
        hidden, active = inputs_embeds, positions
        rotations = rotary_tables(active[None], head_width, hidden.dtype)
        relevance, entropies = torch.zeros(visual_tokens), []
        cache: list[tuple[Tensor, Tensor]] = []
        for index, layer in enumerate(language.layers):
            if previous is not None and index in self._config.reuse_before_layers:
                leaving = 1 + reusable[: int(previous.shares[index] * len(reusable))]
                stays = torch.isin(active, leaving.to(active.device), invert=True)
                hidden, active = hidden[:, stays], active[stays]
                rotations = rotary_tables(active[None], head_width, hidden.dtype)
            queries, keys, values = project_heads(layer, hidden, rotations, head_width)
            if previous is not None and len(active) < count:
                stored_keys, stored_values = previous.cache[index]
                keys = _complete(keys, active, stored_keys, count)
                values = _complete(values, active, stored_values, count)
            cache.append((keys[:, :, 1 : 1 + visual_tokens].clone(), values[:, :, 1 : 1 + visual_tokens].clone()))
            rows = attention_rows(queries[0], keys[0], active)
            entropies.append(torch.special.entr(rows).sum(-1).mean())
            if index <= self._config.relevance_layer:
                relevance = rows[active > visual_tokens, 1 : 1 + visual_tokens].mean(0)
            asking = active
            if index == final:
                # As in the plain prefill, the last layer answers for the last position alone.
                hidden, queries, asking = hidden[:, -1:], queries[:, :, -1:], active[-1:]
            visible = None if len(asking) == count else positions <= asking[:, None]
            hidden = finish_layer(layer, hidden, attend(queries, keys, values, visible))
        shares = reuse_shares(torch.stack(entropies).double().cpu().numpy(), self._config.damping)
        cognition = language.norm(hidden)[:, 0]
        # A frame that came to nothing must not lead the next ones there too.
        sound = bool(cognition.isfinite().all())
        self._previous = _Frame(image, cache, relevance.cpu().numpy(), shares) if sound else None
        self.reused = np.setdiff1d(np.arange(visual_tokens), active.cpu().numpy() - 1)
        return Prefill(cognition, active[None], None)

    def _reusable(self, image: NDArray[np.uint8], visual_tokens: int) -> Tensor:
        """Visual tokens int64 (n,) that may be reused, the most similar first; none without a previous frame."""
        if self._previous is None:
            return torch.zeros(0, dtype=torch.int64)
        config = self._config
        similarity = patch_similarity(image, self._previous.image, math.isqrt(visual_tokens))
        relevance = self._previous.relevance
        tokens = reusable_tokens(similarity, relevance, config.similarity, config.most_reused, config.relevant)
        return torch.from_numpy(tokens)


def _complete(computed: Tensor, active: Tensor, stored: Tensor, count: int) -> Tensor:
    """Keys or values of all positions: those computed now, and at the visual positions left the stored ones."""
    complete = functional.pad(stored, (0, 0, 1, count - 1 - stored.shape[2]))
    complete[:, :, active] = computed
    return complete
