"""What a policy file may say, and what a loaded policy says about itself."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from sqap_vla_ros.config.files import named_file, read_yaml
from sqap_vla_ros.config.pruning import PruningConfig
from sqap_vla_ros.config.robot import Group, validate


class DiffusionConfig(Group):
    """How the action head samples."""

    sampler: Literal["ddim", "ddpm"] = Field("ddim", description="DDIM, or the 100 ancestral steps of DDPM")
    steps: int = Field(10, ge=1, le=100, description="DDIM steps")
    guidance: float = Field(1.5, ge=0, le=20, description="Classifier-free guidance scale; 1 or less: none")
    recompute_every: int = Field(
        1, ge=1, le=100, description="Steps per run of the action head's blocks, reused in between (EfficientVLA: 5)"
    )


class PolicyConfig(Group):
    """One policy file in `config/policies/`."""

    name: str = Field(min_length=1, description="Name of the policy in status, metadata and reports")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the vision-language model; auto: bfloat16 on a GPU, float32 on a CPU"
    )
    weights: Literal["any", "float"] = Field(
        "any", description="float: refuse a compressed checkpoint, which this policy is to be compared with"
    )
    diffusion: DiffusionConfig = DiffusionConfig()
    pruning: PruningConfig | None = Field(None, description="Which visual tokens go or are reused; absent: none")


def read_policy(name: str) -> PolicyConfig:
    """A policy file by its short name or path.

    Raises:
        ConfigurationError: There is none, or it cannot be used.
    """
    path = named_file("policies", name)
    return validate(PolicyConfig, read_yaml(path), str(path))


@dataclass(frozen=True)
class PolicyMetadata:
    """What is running; the fields of the PolicyMetadata message that the policy knows.

    Attributes:
        weights: "float", or the recipe that compressed them.
        recipe: That compressed the weights; empty: none.
    """

    policy: str
    checkpoint: str
    checkpoint_sha256: str
    statistics_key: str
    weights: str
    weight_bits: int
    activation_bits: int
    visual_tokens: int
    kept_tokens: int
    parameters: int
    memory_bytes: int
    device: str
    time_step_s: float
    horizon: int
    recipe: str = ""

    @property
    def policy_id(self) -> str:
        """Name of the policy and the first twelve digits of its checkpoint's hash."""
        return f"{self.policy}@{self.checkpoint_sha256[:12]}"
