"""Are instruction, action convention and checkpoint set, and do they fit each other?"""

import math

import numpy as np

from sqap_vla_ros.config.files import config_directory
from sqap_vla_ros.config.robot import ActionConvention, Configuration, Frames, load_configuration
from sqap_vla_ros.core.instruction import warning_about
from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level
from sqap_vla_ros.vlm.checkpoint import Checkpoint, open_checkpoint
from sqap_vla_ros.vlm.statistics import ActionStatistics, choose_statistics
from sqap_vla_ros.vlm.weights import CheckpointError

_ROTATIONS = {
    "euler_difference": "rotation as differences of roll, pitch and yaw",
    "fixed_axis": "rotation about the fixed x, y and z axes, in this order",
    "axis_angle": "rotation as a rotation vector",
}


def check_instruction(evidence: Evidence) -> Finding:
    """Check that there is an instruction."""
    configured = evidence.configuration.instruction
    for instruction in [configured] if configured else evidence.instructions:
        if warning := warning_about(instruction):
            return Finding(Level.WARNING, "instruction", warning, "give it in English, in the training data's words")
    if configured:
        return Finding(Level.OK, "instruction", f"'{configured}', as set")
    if evidence.instructions:
        more = f" and {len(evidence.instructions) - 1} others" if len(evidence.instructions) > 1 else ""
        return Finding(Level.OK, "instruction", f"'{evidence.instructions[0]}'{more}, as published")
    advice = "set instruction, or publish it on ~/instruction, with the words of the policy's training data"
    return Finding(Level.WARNING, "instruction", "none: nothing is planned without one", advice)


def check_convention(configuration: Configuration) -> list[Finding]:
    """State what an action means on this robot, to be compared with the description of the training data."""
    advice = (
        "compare with the description of the training data: if this is wrong, nothing fails, but the arm moves wrongly"
    )
    return [
        Finding(Level.OK, "actions", action_words(configuration.action, configuration.frames), advice),
        *_other_convention(configuration),
        Finding(Level.OK, "tool frame", tool_frame_words(configuration.frames)),
    ]


def _other_convention(configuration: Configuration) -> list[Finding]:
    """Warn if a robot file of this package gives the actions of the same data another meaning."""
    key = configuration.statistics_key
    if not key:
        return []
    for file in sorted((config_directory() / "robots").glob("*.yaml")):
        other = load_configuration(str(file))
        if other.statistics_key == key and other.action != configuration.action:
            what = f"{file.name} has other settings for '{key}': {action_words(other.action, configuration.frames)}"
            advice = "copy its action block, and check its tool_policy_*"
            return [Finding(Level.WARNING, "actions", what, advice)]
    return []


def action_words(action: ActionConvention, frames: Frames) -> str:
    """Describe the action convention in a sentence."""
    axes = f"the axes of '{frames.base}'" if action.frame == "base" else "the tool's own axes"
    increment = (
        "the motion that the tool achieved" if action.increment == "achieved" else "the motion that was commanded"
    )
    anchor = "the tool pose at the image" if action.anchor == "measured" else "the last target"
    gripper = f"gripper {action.gripper_open} is open" + (", given as changes" if action.gripper_relative else "")
    return (
        f"each is {increment} in {1e3 / action.rate_hz:.0f} ms ({action.rate_hz:g} Hz), translation along {axes}, "
        f"{_ROTATIONS[action.rotation]}; the first is added to {anchor}; {gripper}"
    )


def tool_frame_words(frames: Frames) -> str:
    """Describe T_tool_policy in a sentence."""
    if not any(frames.tool_policy_xyz) and not any(frames.tool_policy_rpy):
        return f"the policy's tool frame is '{frames.tool}' itself"
    x, y, z = frames.tool_policy_xyz
    roll, pitch, yaw = (math.degrees(angle) for angle in frames.tool_policy_rpy)
    return (
        f"the policy's tool frame lies in '{frames.tool}' at ({x:g}, {y:g}, {z:g}) m, "
        f"turned by roll {roll:.0f}°, pitch {pitch:.0f}°, yaw {yaw:.0f}°"
    )


def check_checkpoint(configuration: Configuration) -> tuple[list[Finding], Checkpoint | None]:
    """Check that the checkpoint exists and has the robot's action statistics, and that its steps fit the limits."""
    if not configuration.checkpoint:
        advice = "give --checkpoint: statistics key, speed and memory depend on it"
        return [Finding(Level.WARNING, "checkpoint", "none given", advice)], None
    try:
        checkpoint = open_checkpoint(configuration.checkpoint)
    except CheckpointError as error:
        return [
            Finding(Level.PROBLEM, "checkpoint", str(error), "give another --checkpoint, or complete this one")
        ], None
    try:
        statistics = choose_statistics(checkpoint.statistics, configuration.statistics_key or None)
    except ValueError as error:
        return [Finding(Level.PROBLEM, "statistics", str(error), "set statistics_key in the robot's file")], checkpoint
    return [_statistics(statistics, configuration)], checkpoint


def _statistics(statistics: ActionStatistics, configuration: Configuration) -> Finding:
    limits = configuration.limits
    largest = np.maximum(abs(statistics.q01), abs(statistics.q99))
    translation_m, rotation = float(largest[:3].max()), float(largest[3:6].max())
    what = (
        f"'{statistics.key}': actions up to {translation_m * 1e3:.0f} mm and {math.degrees(rotation):.1f}° per axis, "
        f"that is {translation_m * configuration.action.rate_hz:.2f} m/s"
    )
    if translation_m > limits.step or rotation > limits.step_rotation:
        what += f"; limits.step is {limits.step * 1e3:.0f} mm, .step_rotation {math.degrees(limits.step_rotation):.1f}°"
        advice = "longer steps are shortened: correct statistics_key if it is wrong, else raise the limits"
        return Finding(Level.WARNING, "statistics", what, advice)
    return Finding(Level.OK, "statistics", what)
