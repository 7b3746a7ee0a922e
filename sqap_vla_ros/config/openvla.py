"""The `openvla` part of a policy file: what a published OpenVLA or OpenVLA-OFT directory does not say about itself.

Its files say whether there is a head and which, and how many numbers an action and a state have. Everything here was
decided where the weights were trained, fails silently if it is wrong, and has therefore no default.
"""

from typing import Literal

from pydantic import Field

from sqap_vla_ros.config.settings import Group


class OpenVlaConfig(Group):
    """How an OpenVLA or OpenVLA-OFT was trained."""

    views: int = Field(ge=1, le=3, description="Number of camera images")
    chunk: int = Field(ge=1, le=100, description="Actions per plan. OpenVLA: 1")
    normalisation: Literal["bounds", "bounds_q99"] = Field(
        description="Whether actions and state were normalised by their extremes or by their quantiles"
    )
    resize: Literal["lanczos", "bicubic"] = Field(
        description="lanczos: JPEG and TensorFlow's resize, as for training; bicubic: the processor's resize alone"
    )
    center_crop: bool = Field(description="Whether images were cropped at random in training: here the middle is taken")
    mirrored: bool = Field(
        description="Whether images were mirrored left to right, as LIBERO's are that were turned by 180 degrees"
    )
    actions: Literal["tool_deltas", "osc_inputs", "joint_deltas", "joint_positions"] = Field(
        description="tool_deltas: metres and radians; osc_inputs: LIBERO's inputs, -1 to 1, of an operational-space "
        "controller, from which the motion follows that they lead to; joint_deltas, joint_positions: radians"
    )
    grippers: tuple[int, ...] = Field(
        (6,), min_length=1, description="Which numbers of an action are grippers (ALOHA: 6 and 13)"
    )
    state: Literal["none", "tool", "joints"] = Field(
        description="tool: position, rotation vector and gripper joints; joints: joint positions and grippers"
    )
    decoding: Literal["regression", "diffusion", "parallel", "autoregressive"] | None = Field(
        None,
        description="How actions come out: parallel (OpenVLA-OFT) or autoregressive (OpenVLA) tokens. Absent: as the "
        "file of the head says",
    )
    denoising_steps: int = Field(50, ge=1, le=50, description="Steps of a diffusion head")
