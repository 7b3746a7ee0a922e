"""The recipe: how a checkpoint is compressed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from sqap_vla_ros.config.files import ConfigurationError, named_file, read_yaml
from sqap_vla_ros.config.settings import Group, validate

RECIPE_NAME = r"^\w[\w.-]*$"
# Earlier name -> name. A compressed checkpoint is known by the hash of its manifest, with which results are recorded. A
# manifest therefore keeps the earlier name, and whoever reads it sees the present one.
RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "sqap-w4a4": "w4a4-residual",
        "sqap-w4a4-online": "w4a4-online",
        "sqap-w4a4-paper": "qk-rotation",
        "w4a4-paper": "qk-rotation",
        "sqap-qvla": "qvla-rotated",
    }
)

Rotation = Literal["none", "query_key", "inputs", "residual"]

Granularity = Literal["token", "tensor", "channel"]

SmoothingBy = Literal["largest", "power"]


class WeightRecipe(Group):
    """How the weights of the language model are rounded."""

    bits: Literal[4, 8] = Field(4, description="Bits of a weight")
    rounding: Literal["nearest", "gptq"] = Field(
        "gptq",
        description="Round to nearest, or GPTQ. Without calibration frames weights are always rounded to nearest",
    )
    clip_search: bool = Field(
        True, description="Whether each row is clipped where its squared error is least, not at its maximum"
    )


class ActivationRecipe(Group):
    """How the inputs of the language model's linear layers are rounded."""

    bits: Literal[4, 8, 16] = Field(4, description="Bits of an activation. 16: not rounded")
    granularity: Granularity = Field(
        "token", description="One dynamic scale per token, one per tensor, or a static one per channel"
    )
    clip: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Share of a token's largest magnitude that 4 bits represent, if its inputs are rotated; else, and "
        "with 8 bits, all of it",
    )
    clip_search: bool = Field(
        True,
        description="Whether calibration frames decide, layer by layer, where 4-bit inputs are clipped: at the least "
        "squared error, in place of `clip`",
    )
    scoring_bits: Literal[4, 8] | None = Field(
        None,
        description="Bits of the inputs of queries and keys in the first two layers, whose attention chooses tokens. "
        "Absent: `bits`",
    )


class MixedPrecision(Group):
    """Mixed precision (QVLA): each output channel gets bits by its effect on the actions."""

    target_bits: float = Field(4.0, ge=0.5, le=16, description="Mean bits per weight of the language model")
    # Not written where it is the default: a manifest is known by its hash.
    sensitivity: Literal["actions", "layer"] = Field(
        "actions",
        exclude_if=lambda value: value == "actions",
        description="actions: by how much the actions change (the paper); layer: by how much the layer's own output "
        "changes, with the mean bits over channels, as the published code allocates",
    )


class Recipe(Group):
    """One recipe file in `config/recipes/`."""

    name: str = Field(pattern=RECIPE_NAME, description="Name of the recipe in metadata, reports and paths")
    weights: WeightRecipe = WeightRecipe()
    activations: ActivationRecipe = ActivationRecipe()
    rotation: Rotation = Field(
        "none",
        description="Hadamard rotation. query_key: online before queries and keys; inputs: online before all linear "
        "layers; residual: the residual stream offline, and online only before the output and down projections",
    )
    hadamard_block: int = Field(
        4096, ge=2, le=16384, description="Largest block of channels that is rotated together, a power of two"
    )
    smoothing: float | None = Field(
        None,
        ge=0,
        le=1,
        description="SmoothQuant's exponent: how far outliers move from activations to weights; needs calibration "
        "frames. Absent: no smoothing",
    )
    # Manifests of compressed checkpoints are known by their hash: what is as in SmoothQuant is not written.
    smoothing_by: Annotated[SmoothingBy, Field(exclude_if=lambda value: value == "largest")] = Field(
        "largest",
        description="What a channel is smoothed by: its largest magnitude, as in SmoothQuant, or its root mean square, "
        "which is what counts where the input is rotated afterwards",
    )
    towers: Literal["float", "w8a8"] = Field("w8a8", description="Number format of the vision towers")
    mixed: MixedPrecision | None = Field(
        None, description="Mixed precision by action sensitivity; needs calibration frames. Absent: none"
    )

    @field_validator("name", mode="before")
    @classmethod
    def _present_name(cls, name: Any) -> Any:
        return RENAMED.get(name, name) if isinstance(name, str) else name

    @field_serializer("name")
    def _stored_name(self, name: str) -> str:
        return next((earlier for earlier, present in RENAMED.items() if present == name), name)

    @model_validator(mode="after")
    def _parts_fit(self) -> "Recipe":
        if self.hadamard_block & (self.hadamard_block - 1):
            raise ValueError(f"hadamard_block = {self.hadamard_block}: expected a power of two")
        if self.mixed and self.rotation == "residual":
            raise ValueError(
                "mixed precision with rotation 'residual': a rotated stream mixes output channels, so that none can be "
                "judged alone; use rotation 'inputs', 'query_key' or 'none'"
            )
        if self.mixed and self.smoothing is not None:
            raise ValueError(
                "mixed precision with smoothing: its factors come from the rounded layers before, whose bits are not "
                "known yet; remove one of the two"
            )
        if self.mixed and self.weights.rounding == "gptq":
            raise ValueError("mixed precision rounds to nearest; set weights.rounding to 'nearest'")
        if self.activations.bits == 16 and self.activations.granularity != "token":
            raise ValueError("activations.bits = 16 rounds nothing; leave activations.granularity at 'token'")
        if self.activations.granularity == "channel" and self.mixed:
            raise ValueError("mixed precision needs activations.granularity 'token' or 'tensor'")
        return self

    @property
    def needs_frames(self) -> str:
        """The part of the recipe that needs calibration frames; empty if none does."""
        if self.mixed:
            return "mixed precision"
        return "a static scale per channel" if self.activations.granularity == "channel" else ""

    @property
    def left_out_without_frames(self) -> str:
        """What a compression without calibration frames leaves out, as a sentence; empty if that is nothing."""
        words = ["weights are rounded to nearest in place of GPTQ"] if self.weights.rounding == "gptq" else []
        words += ["nothing is smoothed"] if self.smoothing is not None else []
        return " and ".join(words)


def read_recipe(name: str) -> Recipe:
    """Read a recipe by its short name or path.

    Raises:
        ConfigurationError: There is no such file, or a setting in it cannot be used.
    """
    if name in RENAMED:
        raise ConfigurationError(f"recipe '{name}': the name is now '{RENAMED[name]}'; give that one")
    path = named_file("recipes", name)
    return validate(Recipe, read_yaml(path), str(path))
