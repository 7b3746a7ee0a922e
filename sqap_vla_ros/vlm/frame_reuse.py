"""VLA-Cache's prefill: keys and values of visual tokens that did not change come from the previous frame.

Such a token leaves the residual stream before some layer. From there on its keys and values are those of the last
frame that computed them, at the position that they had. Text is not cached: visual tokens come before it and never see
it, so the cache is valid for every instruction.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.config.pruning import VlaCacheConfig
from sqap_vla_ros.vlm.attention import attend, attention_rows, rotary_tables
from sqap_vla_ros.vlm.language import LanguageModel, Prefill
from sqap_vla_ros.vlm.layers import LayerInput
from sqap_vla_ros.vlm.pruning.vla_cache import patch_similarity, reusable_tokens, reuse_shares


@dataclass(frozen=True)
class _Frame:
    """What the next frame may reuse of this one.

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
    """The previous frame of one stream of images, and the prefill that reuses parts of it.

    Args:
        config: What counts as unchanged, and before which layers tokens are reused.

    Attributes:
        reused: int64 (n,), visual tokens that the last prefill took from the previous frame in some layers, ascending.
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
            language: The language model, the same for all frames.
            inputs_embeds: (1, positions, width), from `LanguageModel.embed`.
            visual_tokens: Number of visual tokens behind the first position.
            image: uint8 (side, side, 3), the model image that the visual tokens come from.

        Raises:
            ValueError: There is more than one sample.
        """
        batch, count, _ = inputs_embeds.shape
        if batch != 1:
            raise ValueError(f"{batch} samples: frames follow one another, so they are reused one at a time")
        device = inputs_embeds.device
        reusable = self._reusable(image, visual_tokens)
        layers = _ReusingLayers(
            self._config, self._previous, reusable, visual_tokens, torch.arange(count, device=device)
        )
        hidden = language.run_layers(
            inputs_embeds,
            last=torch.tensor([count - 1], device=device),
            before_layer=layers.drop_reused,
            attention=layers.attend,
        )
        shares = reuse_shares(torch.stack(layers.entropies).double().cpu().numpy(), self._config.damping)
        cognition = language.norm(hidden)[:, 0]
        # A frame whose values are not finite must not spoil the next ones.
        sound = bool(cognition.isfinite().all())
        self._previous = _Frame(image, layers.cache, layers.relevance.cpu().numpy(), shares) if sound else None
        self.reused = np.setdiff1d(np.arange(visual_tokens), layers.active.cpu().numpy() - 1)
        return Prefill(cognition, layers.active[None], None)

    def _reusable(self, image: NDArray[np.uint8], visual_tokens: int) -> Tensor:
        """Visual tokens int64 (n,) that may be reused, the most similar first; none without a previous frame."""
        if self._previous is None:
            return torch.zeros(0, dtype=torch.int64)
        config = self._config
        similarity = patch_similarity(image, self._previous.image, math.isqrt(visual_tokens))
        relevance = self._previous.relevance
        tokens = reusable_tokens(similarity, relevance, config.similarity, config.most_reused, config.relevant)
        return torch.from_numpy(tokens)


class _ReusingLayers:
    """The two hooks of `run_layers` for one frame, and what they collect for the next one.

    Args:
        config: Before which layers tokens are reused, and which layer's attention says what is relevant.
        previous: The previous frame; None: nothing is reused.
        reusable: int64 (n,), visual tokens that may be reused, the most similar first.
        visual_tokens: Number of visual tokens behind the first position.
        positions: int64 (positions,), all positions.

    Attributes:
        active: int64 (active,), positions that are still computed.
        cache: See `_Frame`.
        relevance: See `_Frame`.
        entropies: Mean entropy of the attention rows, per layer.
    """

    def __init__(
        self,
        config: VlaCacheConfig,
        previous: _Frame | None,
        reusable: Tensor,
        visual_tokens: int,
        positions: Tensor,
    ) -> None:
        self._config, self._previous, self._reusable = config, previous, reusable
        self._visual, self._positions = visual_tokens, positions
        self.active = positions
        self.cache: list[tuple[Tensor, Tensor]] = []
        self.relevance = torch.zeros(visual_tokens)
        self.entropies: list[Tensor] = []

    def drop_reused(self, index: int, inputs: LayerInput) -> LayerInput:
        """In front of a layer: drop the tokens that it and the later layers reuse."""
        if self._previous is None or index not in self._config.reuse_before_layers:
            return inputs
        leaving = 1 + self._reusable[: int(self._previous.shares[index] * len(self._reusable))]
        stays = torch.isin(self.active, leaving.to(self.active.device), invert=True)
        hidden, self.active = inputs.hidden[:, stays], self.active[stays]
        head_width = inputs.rotations[0].shape[-1]
        return replace(
            inputs,
            hidden=hidden,
            rotations=rotary_tables(self.active[None], head_width, hidden.dtype),
            last=torch.tensor([len(self.active) - 1], device=self.active.device),
        )

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, only: Tensor | None) -> Tensor:
        """Within a layer: attention over the computed and the reused keys; remember both for the next frame."""
        index, active, visual = len(self.cache), self.active, self._visual
        if self._previous is not None and len(active) < len(self._positions):
            stored_keys, stored_values = self._previous.cache[index]
            keys = _complete(keys, active, stored_keys, len(self._positions))
            values = _complete(values, active, stored_values, len(self._positions))
        self.cache.append((keys[:, :, 1 : 1 + visual].clone(), values[:, :, 1 : 1 + visual].clone()))
        rows = attention_rows(queries[0], keys[0], active)
        self.entropies.append(torch.special.entr(rows).sum(-1).mean())
        if index <= self._config.relevance_layer:
            self.relevance = rows[active > visual, 1 : 1 + visual].mean(0)
        if only is not None:
            queries, active = queries[:, :, only], active[only]
        visible = None if len(active) == len(self._positions) else self._positions <= active[:, None]
        return attend(queries, keys, values, visible)


def _complete(computed: Tensor, active: Tensor, stored: Tensor, count: int) -> Tensor:
    """Keys or values of all positions: the computed ones, and the stored ones at the other visual positions."""
    complete = functional.pad(stored, (0, 0, 1, count - 1 - stored.shape[2]))
    complete[:, :, active] = computed
    return complete
