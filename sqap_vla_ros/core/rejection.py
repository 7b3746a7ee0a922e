"""Why the arm may not move, or why a command was not sent: a code, what follows, and a sentence.

Programs and tests read the code; the sentence, with its names and numbers, is for people. `msg/PolicyStatus.msg` lists
the same codes, and `docs/explanation/safety-transitions.md` lists what follows from each.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum


class Response(Enum):
    """What follows from a rejection, besides that nothing is sent."""

    DROP = "drop"
    """The arm goes on with its last trajectory, which ends at rest by itself."""
    HOLD = "hold"
    """The arm ramps to rest now, and goes on by itself with the next good command."""
    STOP = "stop"
    """The arm ramps to rest now, and stays there until somebody calls ~/resume."""


class Cause(StrEnum):
    """The codes of all reasons for which the arm does not move; `meaning` explains each in one sentence."""

    meaning: str

    def __new__(cls, code: str, meaning: str) -> "Cause":
        """A member whose value is its code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    # The node
    CONFIGURATION_FAILED = "configuration_failed", "The last configure failed; the node is unconfigured."
    NOT_ACTIVE = "not_active", "The node is not active, or is being deactivated."
    DRY_RUN = "dry_run", "The parameter dry_run was set while the arm moved."
    STOPPED_BY_USER = "stopped_by_user", "Somebody called ~/stop; the arm stays at rest until ~/resume is called."
    NO_TIME = "no_time", "use_sim_time is set and nothing is received on /clock."
    CLOCK_JUMP = "clock_jump", "The ROS clock was set back, or ahead of real time."
    INTERNAL_ERROR = "internal_error", "A defect or a library's failure; the log holds the traceback."

    # Inputs
    NO_INSTRUCTION = "no_instruction", "There is no instruction, neither on ~/instruction nor as a parameter."
    IMAGE_MISSING = "image_missing", "No image has been received yet."
    IMAGE_STALE = "image_stale", "The last image is older than freshness.image."
    IMAGE_UNUSABLE = "image_unusable", "Images arrive, but they are malformed, cannot be decoded, or are out of order."
    CAMERA_FROZEN = "camera_frozen", "Images with new stamps stay identical while the tool moves."
    CAMERA_LOST = "camera_lost", "A further camera that the policy needs has sent no image for freshness.image."
    CAMERA_OUT_OF_STEP = (
        "camera_out_of_step",
        "A further camera has no image within freshness.camera_skew of the first one's: late, or not synchronised.",
    )
    STATE_MISSING = "state_missing", "A joint of the state that the policy needs is not measured at the image's stamp."
    TRANSFORM_MISSING = (
        "transform_missing",
        "The transform from base to tool is not known, or not at the image's stamp.",
    )
    TRANSFORM_STALE = "transform_stale", "The last transform from base to tool is older than freshness.transform."
    JOINT_STATES_MISSING = "joint_states_missing", "No joint states have been received yet."
    JOINT_STATES_STALE = "joint_states_stale", "The last joint states are older than freshness.joint_states."
    JOINT_STATES_UNUSABLE = "joint_states_unusable", "Joint states lack a joint, or hold numbers that are not finite."
    STAMP_IN_FUTURE = "stamp_in_future", "An input is stamped ahead of the clock; clocks are not synchronised."
    NOT_ENABLED = "not_enabled", "The enabling switch (topics.enable) is released or silent."

    # The arm
    NO_ROBOT_MODEL = "no_robot_model", "No robot description has been received yet."
    ROBOT_MODEL_UNUSABLE = (
        "robot_model_unusable",
        "The robot description is not URDF, lacks a joint or a frame, or has limits that make no sense.",
    )
    ROBOT_MODEL_DISAGREES = (
        "robot_model_disagrees",
        "The robot model puts the tool elsewhere than TF does, or has a joint far beyond its limits.",
    )
    ROBOT_MODEL_CHANGED = "robot_model_changed", "Another robot description was received while the arm moved."
    NO_CONTROLLER = "no_controller", "No controller listens on the command topic."
    CONTROLLER_INCOMPATIBLE = "controller_incompatible", "The controller takes another type, or asks for another QoS."
    CONTROLLER_LOST = "controller_lost", "The controller has gone while the arm moved, or was started again."
    CONTROLLER_REJECTED = "controller_rejected", "The simulated controller did not accept the trajectory."
    SPEED_SCALING_UNKNOWN = (
        "speed_scaling_unknown",
        "The topic of the controller's speed scaling is silent, so that its time is not known.",
    )
    SPEED_SCALING_UNUSABLE = (
        "speed_scaling_unusable",
        "The controller's speed scaling is zero, above one or not a number; it is paused, or cannot be planned for.",
    )
    ALREADY_MOVING = "already_moving", "The arm moves although no trajectory of this node is active."
    NOT_FOLLOWING = "not_following", "The arm is not where the active trajectory has it: blocked, or driven by others."

    # The policy
    POLICY_FAILED = "policy_failed", "The policy raised an error instead of planning."
    POLICY_TIMEOUT = "policy_timeout", "A plan takes longer than plan_timeout."
    POLICY_UNRESPONSIVE = "policy_unresponsive", "The policy's process shows no sign of life."
    POLICY_DEAD = "policy_dead", "The policy's process has ended, or has lost its GPU."
    POLICY_RESTARTING = "policy_restarting", "The policy's process is being started again."

    # The plan and its command
    CHUNK_INVALID = "chunk_invalid", "The chunk has a wrong shape or time step, or numbers that are not finite."
    CHUNK_OUTDATED = "chunk_outdated", "All poses of the chunk lie in the past."
    CHUNK_SUPERSEDED = "chunk_superseded", "Instruction, activation or time have changed since the plan began."
    TARGET_FAR_FROM_TOOL = "target_far_from_tool", "The chunk's first target is further from the tool than the limits."
    NO_MOTION_WITHIN_LIMITS = (
        "no_motion_within_limits",
        "No trajectory keeps the limits of velocity, acceleration, jerk.",
    )
    TRAJECTORY_INVALID = "trajectory_invalid", "The trajectory has numbers that are not finite, or times out of order."
    LIMIT_EXCEEDED = "limit_exceeded", "The trajectory would exceed a limit of a joint."
    OUT_OF_WORKSPACE = "out_of_workspace", "The trajectory would take the tool out of the workspace."
    PLANS_STAND_STILL = "plans_stand_still", "Plans arrive and are commanded, but none of them moves the tool."
    GRIPPER_UNREACHED = "gripper_unreached", "The plans move the gripper, but nothing takes its commands."
    COMMAND_LATE = "command_late", "The command was ready too late to join the active trajectory."


@dataclass(frozen=True)
class Rejection:
    """Why something is not done.

    Attributes:
        cause: The code, for programs.
        response: What follows.
        sentence: The same with names and numbers, for people.
    """

    cause: Cause
    response: Response
    sentence: str


class RejectedError(Exception):
    """Carries a `Rejection` to who can act on it."""

    def __init__(self, cause: Cause, response: Response, sentence: str) -> None:
        super().__init__(sentence)
        self.rejection = Rejection(cause, response, sentence)
