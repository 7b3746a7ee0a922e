"""The policy file: how the network samples, in which precision it runs, and which visual tokens it keeps."""

from typing import Literal

from pydantic import Field

from sqap_vla_ros.config.files import named_file, read_yaml
from sqap_vla_ros.config.openvla import OpenVlaConfig
from sqap_vla_ros.config.pruning import PruningConfig
from sqap_vla_ros.config.settings import Group, validate


class DiffusionConfig(Group):
    """How the action head samples its chunk."""

    sampler: Literal["ddim", "ddpm"] = Field("ddim", description="DDIM, or all 100 ancestral steps of DDPM")
    steps: int = Field(10, ge=1, le=100, description="Number of DDIM steps")
    guidance: float = Field(1.5, ge=0, le=20, description="Classifier-free guidance scale. 1 or less: no guidance")
    recompute_every: int = Field(
        1,
        ge=1,
        le=100,
        description="Diffusion steps per run of the action head's blocks; the steps between reuse it (EfficientVLA: 5)",
    )


class PolicyConfig(Group):
    """One policy file in `config/policies/`."""

    name: str = Field(min_length=1, description="Name of the policy in status, metadata and reports")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the vision-language model. auto: bfloat16 on a GPU, float32 on a CPU"
    )
    weights: Literal["any", "float"] = Field(
        "any", description="float: a compressed checkpoint is rejected, since this policy is the reference for it"
    )
    diffusion: DiffusionConfig = DiffusionConfig()
    # What is not there is not written: episodes are recorded with the settings of their policy.
    openvla: OpenVlaConfig | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="How an OpenVLA or OpenVLA-OFT was trained. Absent: the policy is for CogACT",
    )
    pruning: PruningConfig | None = Field(None, description="Which visual tokens are dropped or reused. Absent: none")


def read_policy(name: str) -> PolicyConfig:
    """Read a policy file by its short name or path.

    Raises:
        ConfigurationError: There is no such file, or a setting in it cannot be used.
    """
    path = named_file("policies", name)
    return validate(PolicyConfig, read_yaml(path), str(path))
