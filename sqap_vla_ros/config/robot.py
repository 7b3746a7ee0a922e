"""The robot file: one typed description that the node's parameters, the robot YAMLs and the offline tools share.

A robot YAML is a ROS parameter file (`/**: ros__parameters: ...`), so that `ros2 launch`, `ros2 param` and a
`--params-file` work on it as usual, and it is read here without ROS for replay and simulation. Both ways end in
`Configuration`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sqap_vla_ros.config.cameras import Camera, StateConvention
from sqap_vla_ros.config.files import ConfigurationError, flatten, named_file, robot_parameters
from sqap_vla_ros.config.names import NODE, OPTIONAL_NODE
from sqap_vla_ros.config.settings import Group, Point, Positive, validate
from sqap_vla_ros.config.topics import Topics

# Longer than any spoken instruction; every published chunk carries the instruction.
LONGEST_INSTRUCTION = 1000

OptionalNodeName = Annotated[str, Field(pattern=OPTIONAL_NODE)]


class Frames(Group):
    """Transform frames of the robot."""

    base: str = Field(
        "base_link", min_length=1, description="Base frame: commands and the workspace are expressed in it"
    )
    tool: str = Field("tool0", min_length=1, description="Tool frame: its pose is the policy's end-effector pose")
    camera: str = Field("", description="Optical frame of the camera. Empty: the frame_id of its images")
    tool_policy_xyz: Point = Field(
        (0.0, 0.0, 0.0), description="Origin of the policy's tool frame in the tool frame (T_tool_policy) [m]"
    )
    tool_policy_rpy: Point = Field(
        (0.0, 0.0, 0.0), description="Fixed-axis roll, pitch, yaw of the policy's tool frame in the tool frame [rad]"
    )
    ring_xyz: Point = Field(
        (0.0, 0.0, 0.0),
        description="Centre of the ring of kept tokens, in the policy's tool frame: the point where it grips [m]",
    )


class ActionConvention(Group):
    """What the seven numbers of an action mean: a property of the data that the policy was trained on."""

    increment: Literal["achieved", "commanded"] = Field(
        "achieved",
        description="Whether the data recorded what the arm achieved between two states, or what was commanded. "
        "No motion is computed from it: it is documented and checked against the anchor",
    )
    rotation: Literal["euler_difference", "fixed_axis", "axis_angle"] = Field(
        "axis_angle",
        description="Difference of roll-pitch-yaw angles, rotations about the fixed x, y, z axes, or a rotation vector",
    )
    anchor: Literal["previous_target", "measured"] = Field(
        "measured", description="What the first delta is added to: the last target, or the tool pose at the image"
    )
    frame: Literal["base", "tool"] = Field("base", description="Frame in whose axes the deltas are expressed")
    rate_hz: Positive = Field(5.0, description="Actions per second [Hz]")
    gripper_open: Literal[0, 1] = Field(1, description="Gripper value that means open")
    gripper_relative: bool = Field(False, description="Whether gripper values are changes, not positions")

    @model_validator(mode="after")
    def _sums_to_a_path(self) -> "ActionConvention":
        if self.increment == "commanded" and self.anchor == "measured":
            raise ValueError(
                "increment = commanded with anchor = measured: an arm reaches only a part of each commanded step, so "
                "their sum overshoots; use anchor = previous_target, or a policy trained on achieved steps"
            )
        return self


class Limits(Group):
    """Bounds that every command keeps."""

    workspace_min: Point = Field((-1.0, -1.0, -1.0), description="Lower corner of the tool's box in the base frame [m]")
    workspace_max: Point = Field((1.0, 1.0, 1.0), description="Upper corner of the tool's box in the base frame [m]")
    step: Positive = Field(0.05, description="Largest translation of one action [m]")
    step_rotation: Positive = Field(0.25, description="Largest rotation of one action [rad]")
    tool_to_target: Positive = Field(0.15, description="Largest distance from the tool to the first target [m]")
    tool_to_target_rotation: Positive = Field(
        0.5, description="Largest rotation from the tool to the first target [rad]"
    )
    joint_velocity: tuple[Positive, ...] = Field(
        (1.0,), description="Largest velocity per joint, or one for all [rad/s]"
    )
    joint_acceleration: tuple[Positive, ...] = Field(
        (5.0,), description="Largest acceleration per joint, or one for all [rad/s^2]"
    )
    joint_jerk: tuple[Positive, ...] = Field((100.0,), description="Largest jerk per joint, or one for all [rad/s^3]")
    tool_velocity: tuple[Positive, Positive] = Field(
        (0.25, 0.8),
        description="Largest translation and rotation velocity, if the tool itself is commanded [m/s, rad/s]",
    )
    tool_acceleration: tuple[Positive, Positive] = Field(
        (1.5, 4.0), description="Largest acceleration, if the tool itself is commanded [m/s^2, rad/s^2]"
    )
    tool_jerk: tuple[Positive, Positive] = Field(
        (30.0, 80.0), description="Largest jerk, if the tool itself is commanded [m/s^3, rad/s^3]"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Limits":
        if any(low >= high for low, high in zip(self.workspace_min, self.workspace_max, strict=True)):
            raise ValueError(f"workspace_min {self.workspace_min} must lie below workspace_max {self.workspace_max}")
        return self


class Freshness(Group):
    """Largest ages of the inputs that a command may be based on."""

    image: Positive = Field(0.5, description="Largest age of the image when a command is published [s]")
    joint_states: Positive = Field(0.2, description="Largest age of the joint states when a command is published [s]")
    transform: Positive = Field(
        0.2, description="Largest age of a transform, and largest gap between two that bracket an image's stamp [s]"
    )
    camera_info: float = Field(
        0.0, ge=0, description="Largest age of camera_info at an image; if older, there is no ring. 0: any age [s]"
    )
    enable: Positive = Field(0.5, description="How long one message of the enabling switch lets the arm move [s]")
    speed_scaling: Positive = Field(
        0.5, description="Largest age of the speed scaling, where topics.speed_scaling names it or it was received [s]"
    )
    frozen_motion: Positive = Field(
        0.02, description="Motion of the tool after which a camera whose images stay identical counts as frozen [m]"
    )
    transform_wait: float = Field(0.05, ge=0, le=1, description="How long an image waits for its transforms [s]")
    camera_skew: Positive = Field(
        0.05, description="Largest difference between the stamps of the first camera's image and another camera's [s]"
    )


class Command(Group):
    """What is commanded, and how action chunks become commands."""

    output: Literal["joint_trajectory", "servo_twist", "servo_pose", "cartesian_pose"] = Field(
        "joint_trajectory",
        description="Joint trajectories, twists or poses for MoveIt Servo, or poses for a Cartesian controller",
    )
    controller: OptionalNodeName = Field(
        "",
        description="Node of the arm's controller, the only one that counts as listening on topics.command. Empty: the "
        "node that the topic is named after, otherwise any that may be one",
    )
    blending: Literal["none", "ensemble", "temporal", "real_time"] = Field(
        "none",
        description="How overlapping chunks become one path. none: the newest chunk; ensemble: adaptive ensemble, one "
        "action per chunk; temporal: the mean of their poses; real_time: planning continues the committed actions",
    )
    joints: tuple[str, ...] = Field(("joint1",), min_length=1, description="Joints of the arm's controller, in order")
    point_spacing: float = Field(0.02, gt=0, le=0.2, description="Time between two trajectory points [s]")
    horizon: float = Field(
        0.0, ge=0, le=5, description="Time that one trajectory covers before its ramp. 0: p99 of the delay + 0.2 s [s]"
    )
    gripper_output: Literal["trajectory", "action", "parallel_action"] = Field(
        "trajectory",
        description="trajectory_msgs/JointTrajectory, the action control_msgs/GripperCommand, or the action "
        "control_msgs/ParallelGripperCommand (parallel_gripper_action_controller, ROS Jazzy and later)",
    )
    gripper_controller: OptionalNodeName = Field(
        "", description="Node of the gripper's controller, for gripper_output = trajectory. Empty: as for controller"
    )
    gripper_joint: str = Field("", description="Joint of the gripper's controller. Empty: no gripper")
    moves_grippers: bool = Field(
        False,
        exclude_if=lambda value: not value,  # recorded settings of before do not have it
        description="Whether `joints` has the grippers too, where a policy of joint positions has them (two arms)",
    )
    gripper_open: float = Field(0.04, description="Position of the gripper joint when open [m or rad]")
    gripper_closed: float = Field(0.0, description="Position of the gripper joint when closed [m or rad]")
    gripper_effort: float = Field(
        0.0, ge=0, description="Largest effort of the gripper's action. 0: the controller's own limit [N or N m]"
    )
    robot_model: str = Field("", description="URDF or MJCF file of the arm. Empty: the robot_description topic")

    @property
    def moves_tool(self) -> bool:
        """Whether the tool itself is commanded and the controller moves the joints."""
        return self.output != "joint_trajectory"


class Robot(Group):
    """The robot, its frames, its limits and what actions mean on it."""

    robot_name: str = Field("unnamed", min_length=1, description="Name of the robot set-up")
    tried_on_hardware: bool = Field(False, description="Whether these settings were tried on the real arm")
    statistics_key: str = Field(
        "",
        description="Data set in the checkpoint whose statistics un-normalise the actions. Empty: the only one; an "
        "error if there are several",
    )
    frames: Frames = Frames()
    topics: Topics = Topics()
    action: ActionConvention = ActionConvention()
    limits: Limits = Limits()
    freshness: Freshness = Freshness()
    state: StateConvention = StateConvention()
    command: Command = Command()

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """All cameras, the first one first."""
        topics = self.topics
        return topics.cameras.listed(Camera("camera", topics.image, topics.camera_info, self.frames.camera))

    @model_validator(mode="after")
    def _frame_of_first_camera(self) -> "Robot":
        if frames := self.topics.cameras.frames:
            if self.frames.camera not in ("", frames[0]):
                raise ValueError(
                    f"frames.camera = '{self.frames.camera}', but topics.cameras has '{frames[0]}' for the first one"
                )
            self.__dict__["frames"] = self.frames.model_copy(update={"camera": frames[0]})
        return self

    @model_validator(mode="after")
    def _gripper_has_joint_and_topic(self) -> "Robot":
        if bool(self.command.gripper_joint) != bool(self.topics.gripper_command):
            raise ValueError(
                f"command.gripper_joint = '{self.command.gripper_joint}' and topics.gripper_command = "
                f"'{self.topics.gripper_command}' belong together: set both, or neither for a robot without gripper"
            )
        return self

    @model_validator(mode="after")
    def _one_limit_per_joint(self) -> "Robot":
        for name in ("joint_velocity", "joint_acceleration", "joint_jerk"):
            count = len(getattr(self.limits, name))
            if count not in (1, len(self.command.joints)):
                raise ValueError(f"limits.{name} has {count} values for the {len(self.command.joints)} command.joints")
        return self


class Configuration(Robot):
    """All parameters of the node: the robot's settings, and which policy drives it and how."""

    policy: str = Field("sqap", min_length=1, description="Name of a file in config/policies, or a path to one")
    checkpoint: str = Field("", description="Run directory, .pt file or Hub id of the CogACT checkpoint")
    tokenizer: str = Field("", description="Directory of the Llama-2 tokenizer. Empty: the checkpoint's directory")
    instruction: str = Field(
        "", max_length=LONGEST_INSTRUCTION, description="The task in plain words; ~/instruction replaces it"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device that the policy runs on")
    torch_threads: int = Field(0, ge=0, le=256, description="Threads of the policy on a CPU. 0: all cores but one")
    plan_timeout: float = Field(5.0, gt=0, le=60, description="Time after which a plan under way is a fault [s]")
    restart_policy: bool = Field(
        False,
        description="Restart the policy's process when it died or hangs; the arm then waits for ~/resume",
    )
    dry_run: bool = Field(
        True, description="Plan and publish everything except commands: the arm moves only when this is false"
    )

    def in_namespace(self, namespace: str, node: str = NODE) -> "Configuration":
        """The same settings for a node in a namespace: all topics have absolute names."""
        return self.model_copy(update={"topics": self.topics.in_namespace(namespace, node)})


def load_configuration(robot: str, namespace: str = "", /, **overrides: Any) -> Configuration:
    """Read the settings of a robot YAML, without ROS; all topics have absolute names.

    Args:
        robot: Name of a file in `config/robots`, or a path to one.
        namespace: Of the node.
        **overrides: Settings that replace those of the file.

    Raises:
        ConfigurationError: There is no such file, or a setting in it cannot be used.
    """
    path = named_file("robots", robot)
    content = flatten(robot_parameters(path))
    try:
        configuration = validate(Configuration, {**content, **overrides}, str(path))
    except ConfigurationError:
        validate(Configuration, content, str(path))  # what is wrong in the file is said of the file
        configuration = validate(Configuration, {**content, **overrides}, "options")
    return configuration.in_namespace(namespace)
