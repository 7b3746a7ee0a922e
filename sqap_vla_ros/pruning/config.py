"""How many visual tokens stay, and why: the `pruning` part of a policy file."""

from typing import Literal

from pydantic import Field, model_validator

from sqap_vla_ros.config import Group

VISUAL_TOKENS = 256
GRID_SIDE = 16


class PruningConfig(Group):
    """SQAP-VLA's token pruning (arXiv 2509.09090)."""

    method: Literal["sqap"] = Field("sqap", description="Attention top-k, robot ring and farthest-point sampling")
    ratio: float = Field(0.4, ge=0, lt=1, description="Share of the visual tokens that goes")
    prune_before_layer: int = Field(
        2, ge=1, description="Tokens go before this layer of the language model; scores come from the one before it"
    )
    attention_fraction: float = Field(0.2, ge=0, le=1, description="Share of the kept tokens chosen by attention")
    ring_radius: int = Field(2, ge=0, description="Radius of the ring around the tool, maximum norm [patches]")

    @property
    def keep(self) -> int:
        """Tokens that stay: always this many, so that shapes never change."""
        return VISUAL_TOKENS - round(self.ratio * VISUAL_TOKENS)

    @property
    def top_k(self) -> int:
        """Tokens chosen by attention (halves round to even, as Python's `round` does, here and in `keep`)."""
        return round(self.attention_fraction * self.keep)

    @model_validator(mode="after")
    def _ring_and_attention_fit(self) -> "PruningConfig":
        ring = min(2 * self.ring_radius + 1, GRID_SIDE) ** 2
        if self.keep < 1 or self.top_k + ring > self.keep:
            raise ValueError(
                f"ratio {self.ratio:g} keeps {self.keep} tokens, fewer than attention ({self.top_k}) and ring "
                f"(up to {ring}) may need; lower ratio, attention_fraction or ring_radius"
            )
        return self
