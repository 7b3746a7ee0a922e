"""The `pruning` part of a policy file: which visual tokens are dropped or reused. One class per `method`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sqap_vla_ros.config.settings import Group

VISUAL_TOKENS = 256
GRID_SIDE = 16


class _TokenDropping(Group):
    """A method that drops a fixed share of the visual tokens."""

    ratio: float = Field(0.4, ge=0, lt=1, description="Share of the visual tokens that is dropped")

    @property
    def keep(self) -> int:
        """Number of tokens that stay; it is fixed, so that shapes never change (halves round to even)."""
        return VISUAL_TOKENS - round(self.ratio * VISUAL_TOKENS)

    @model_validator(mode="after")
    def _keeps_something(self) -> "_TokenDropping":
        if self.keep < 1:
            raise ValueError(f"ratio {self.ratio:g} keeps 0 tokens; lower ratio")
        return self


class _ByAttention(_TokenDropping):
    """A method that drops tokens inside the language model, by the attention of its layers."""

    prune_before_layer: int = Field(
        2,
        ge=1,
        description="Layer of the language model before which tokens are dropped, by the previous layer's attention",
    )


class SqapConfig(_ByAttention):
    """SQAP-VLA (arXiv 2509.09090): attention top-k, robot ring and farthest-point sampling."""

    method: Literal["sqap"] = "sqap"
    attention_fraction: float = Field(0.2, ge=0, le=1, description="Share of the kept tokens chosen by attention")
    ring_radius: int = Field(2, ge=0, description="Radius of the ring around the tool, maximum norm [patches]")

    @property
    def top_k(self) -> int:
        """Number of tokens chosen by attention (halves round to even)."""
        return round(self.attention_fraction * self.keep)

    @model_validator(mode="after")
    def _ring_and_attention_fit(self) -> "SqapConfig":
        ring = min(2 * self.ring_radius + 1, GRID_SIDE) ** 2
        if self.top_k + ring > self.keep:
            raise ValueError(
                f"ratio {self.ratio:g} keeps {self.keep} tokens, fewer than attention ({self.top_k}) and ring "
                f"(up to {ring}) may need; lower ratio, attention_fraction or ring_radius"
            )
        return self


class RandomConfig(_TokenDropping):
    """Random dropping, before the first layer of the language model."""

    method: Literal["random"] = "random"


class FastVConfig(_ByAttention):
    """FastV (arXiv 2403.06764): the tokens that the last position attends to most are kept."""

    method: Literal["fastv"] = "fastv"


class EfficientVlaConfig(_ByAttention):
    """EfficientVLA (arXiv 2506.10100): fewer layers, and tokens kept by relevance to the text and by diversity.

    The third part of the method, the cache in the action head, is `diffusion.recompute_every`.
    """

    method: Literal["efficientvla"] = "efficientvla"
    ratio: float = Field(
        0.5625, ge=0, lt=1, description="Share of the visual tokens that is dropped; as published, 112 stay"
    )
    key_tokens: int = Field(
        4, ge=1, description="Number of most relevant tokens; the diverse tokens are chosen to differ from them"
    )
    relevance_share: float = Field(
        0.5, ge=0, le=1, description="Share of the remaining tokens that is chosen by relevance"
    )
    layer_ratio: float = Field(
        0.125, ge=0, lt=1, description="Share of the language model's layers that is dropped, the least important first"
    )
    drop_layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        description="Layers that are dropped. Absent: a share of `layer_ratio`, by the importance measured at loading",
    )

    @model_validator(mode="after")
    def _key_tokens_fit(self) -> "EfficientVlaConfig":
        if self.key_tokens > self.keep:
            raise ValueError(
                f"ratio {self.ratio:g} keeps {self.keep} tokens, fewer than key_tokens = {self.key_tokens}; lower one"
            )
        return self


class VlaCacheConfig(Group):
    """VLA-Cache (arXiv 2502.02175): visual tokens that did not change reuse the previous frame's keys and values."""

    method: Literal["vla_cache"] = "vla_cache"
    similarity: float = Field(
        0.996,
        gt=0,
        le=1,
        description="Cosine between a patch's pixels in two frames above which it counts as unchanged",
    )
    most_reused: int = Field(
        150, ge=0, le=VISUAL_TOKENS, description="Largest number of unchanged tokens that are considered"
    )
    relevant: int = Field(
        120,
        ge=0,
        le=VISUAL_TOKENS,
        description="Number of tokens, those that the text attends to most, that are always computed",
    )
    relevance_layer: int = Field(
        15, ge=0, description="Layer whose attention decides relevance; the last layer if the model has fewer"
    )
    reuse_before_layers: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 6, 9, 11), description="Layers before which reused tokens leave; layers that the model lacks are ignored"
    )
    damping: float = Field(
        0.55, gt=0, le=1, description="Damping of the rise of the reused share from layer to layer. 1: no damping"
    )

    @property
    def keep(self) -> int:
        """Number of tokens that stay: all of them."""
        return VISUAL_TOKENS


PruningConfig = Annotated[
    SqapConfig | RandomConfig | FastVConfig | EfficientVlaConfig | VlaCacheConfig,
    Field(discriminator="method"),
]
