"""What can be set: one typed description that the node's parameters, the robot YAMLs and the offline tools share.

A robot YAML is a ROS parameter file (`/**: ros__parameters: ...`), so that `ros2 launch`, `ros2 param` and a
`--params-file` work on it as usual, and it is read here without ROS for replay and simulation. Both ways end in
`Configuration`, which refuses unknown names, wrong types and values out of range in one sentence each.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sqap_vla_ros.config.files import ConfigurationError, flatten, named_file, robot_parameters

# Longer than anybody says; an instruction is a part of every chunk that is published.
LONGEST_INSTRUCTION = 1000

Positive = Annotated[float, Field(gt=0)]
_TOPIC = r"~?/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*"
TopicName = Annotated[str, Field(pattern=f"^{_TOPIC}$")]
OptionalTopicName = Annotated[str, Field(pattern=f"^({_TOPIC})?$")]
Point = tuple[float, float, float]


class Group(BaseModel):
    """Settings that belong together; frozen, unknown names are refused, numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class Frames(Group):
    """Transform frames of the robot."""

    base: str = Field("base_link", min_length=1, description="Frame that commands and the workspace are given in")
    tool: str = Field("tool0", min_length=1, description="Tool frame: its pose is the policy's end-effector pose")
    camera: str = Field("", description="Optical frame of the camera; empty: the frame_id of its images")
    tool_policy_xyz: Point = Field(
        (0.0, 0.0, 0.0), description="Origin of the policy's tool frame in the tool frame (T_tool_policy) [m]"
    )
    tool_policy_rpy: Point = Field(
        (0.0, 0.0, 0.0), description="Fixed-axis roll, pitch, yaw of the policy's tool frame in the tool frame [rad]"
    )
    ring_xyz: Point = Field(
        (0.0, 0.0, 0.0),
        description="Point in the policy's tool frame that the ring of kept tokens is drawn around: where it grips [m]",
    )


class Topics(Group):
    """Topics that the node subscribes to and publishes on."""

    image: TopicName = Field("/camera/color/image_raw", description="sensor_msgs/Image or CompressedImage")
    camera_info: TopicName = Field("/camera/color/camera_info", description="sensor_msgs/CameraInfo")
    joint_states: TopicName = Field("/joint_states", description="sensor_msgs/JointState")
    robot_description: TopicName = Field("/robot_description", description="std_msgs/String, URDF, latched")
    enable: OptionalTopicName = Field(
        "",
        description="std_msgs/Bool of an enabling switch (dead-man): the arm moves only while it is true; empty: none",
    )
    command: TopicName = Field(
        "/joint_trajectory_controller/joint_trajectory",
        description="What the arm's controller listens to: trajectory_msgs/JointTrajectory, or as command.output says",
    )
    gripper_command: OptionalTopicName = Field(
        "", description="Topic or action of the gripper's controller; empty: no gripper"
    )


class ActionConvention(Group):
    """What the seven numbers of an action mean: a property of the data that the policy was trained on."""

    increment: Literal["achieved", "commanded"] = Field(
        "achieved", description="Whether a delta is what the arm did between two states, or what it was asked to do"
    )
    rotation: Literal["euler_difference", "fixed_axis", "axis_angle"] = Field(
        "axis_angle",
        description="Difference of roll-pitch-yaw angles; rotations about the fixed x, y, z axes; or a rotation vector",
    )
    anchor: Literal["previous_target", "measured"] = Field(
        "measured", description="What the first delta is added to: the last target, or the tool pose at the image"
    )
    frame: Literal["base", "tool"] = Field("base", description="Frame whose axes the deltas are given in")
    rate_hz: Positive = Field(5.0, description="Actions per second [Hz]")
    gripper_open: Literal[0, 1] = Field(1, description="Gripper value that means open")
    gripper_relative: bool = Field(False, description="Gripper values are changes, not positions")

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
    tool_to_target_rotation: Positive = Field(0.5, description="Largest rotation between them [rad]")
    joint_velocity: tuple[Positive, ...] = Field((1.0,), description="Per joint, or one for all [rad/s]")
    joint_acceleration: tuple[Positive, ...] = Field((5.0,), description="Per joint, or one for all [rad/s^2]")
    joint_jerk: tuple[Positive, ...] = Field((100.0,), description="Per joint, or one for all [rad/s^3]")
    tool_velocity: tuple[Positive, Positive] = Field(
        (0.25, 0.8), description="Of a tool that is commanded itself: translation [m/s], rotation [rad/s]"
    )
    tool_acceleration: tuple[Positive, Positive] = Field((1.5, 4.0), description="Likewise [m/s^2], [rad/s^2]")
    tool_jerk: tuple[Positive, Positive] = Field((30.0, 80.0), description="Likewise [m/s^3], [rad/s^3]")

    @model_validator(mode="after")
    def _ordered(self) -> "Limits":
        if any(low >= high for low, high in zip(self.workspace_min, self.workspace_max, strict=True)):
            raise ValueError(f"workspace_min {self.workspace_min} must lie below workspace_max {self.workspace_max}")
        return self


class Freshness(Group):
    """How old an input may be before nothing is commanded."""

    image: Positive = Field(0.5, description="Largest age of the image when a command is published [s]")
    joint_states: Positive = Field(0.2, description="Largest age of the joint states when a command is published [s]")
    transform: Positive = Field(
        0.2, description="Largest gap between the transforms that bracket an image's stamp, and largest age [s]"
    )
    camera_info: float = Field(
        0.0, ge=0, description="Largest age of the camera_info at an image, or there is no ring [s]; 0: any age"
    )
    enable: Positive = Field(0.5, description="How long one message of the enabling switch lets the arm move [s]")
    frozen_motion: Positive = Field(
        0.02, description="How far the tool may move while images stay identical: the camera is frozen then [m]"
    )
    transform_wait: float = Field(0.05, ge=0, le=1, description="How long an image waits for its transforms [s]")


class Command(Group):
    """What is commanded, and how chunks become it."""

    output: Literal["joint_trajectory", "servo_twist", "servo_pose", "cartesian_pose"] = Field(
        "joint_trajectory",
        description="Joint trajectories; twists or poses for MoveIt Servo; or poses for a Cartesian controller",
    )
    blending: Literal["none", "ensemble", "temporal", "real_time"] = Field(
        "none",
        description="How chunks that overlap become one path: the newest; adaptive ensemble (one chunk per action); "
        "the mean of their poses; or planning on from what is committed",
    )
    joints: tuple[str, ...] = Field(("joint1",), min_length=1, description="Joints of the arm's controller, in order")
    point_spacing: float = Field(0.02, gt=0, le=0.2, description="Time between two trajectory points [s]")
    horizon: float = Field(
        0.0, ge=0, le=5, description="Time that one trajectory covers before its ramp [s]; 0: delay p99 + 0.2 s"
    )
    gripper_output: Literal["trajectory", "action"] = Field(
        "trajectory", description="trajectory_msgs/JointTrajectory, or the action control_msgs/GripperCommand"
    )
    gripper_joint: str = Field("", description="Joint of the gripper's controller; empty: no gripper")
    gripper_open: float = Field(0.04, description="Position of the gripper joint when open [m or rad]")
    gripper_closed: float = Field(0.0, description="Position of the gripper joint when closed [m or rad]")
    gripper_effort: float = Field(
        0.0, ge=0, description="Largest effort of the gripper's action [N or N m]; 0: its own"
    )
    robot_model: str = Field("", description="URDF or MJCF file of the arm; empty: the robot_description topic")

    @property
    def moves_tool(self) -> bool:
        """Whether the tool is commanded itself, its joints left to the controller."""
        return self.output != "joint_trajectory"


class Robot(Group):
    """The robot, its frames, its limits and what actions mean on it."""

    robot_name: str = Field("unnamed", min_length=1, description="Name of the robot set-up")
    tried_on_hardware: bool = Field(False, description="Whether these settings were tried on the real arm")
    statistics_key: str = Field(
        "", description="Action normalisation in the checkpoint; empty: its only one, an error when it has several"
    )
    frames: Frames = Frames()
    topics: Topics = Topics()
    action: ActionConvention = ActionConvention()
    limits: Limits = Limits()
    freshness: Freshness = Freshness()
    command: Command = Command()

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
    """Everything that the node can be told: the robot's settings and the policy's."""

    policy: str = Field("sqap", min_length=1, description="Name of a file in config/policies, or a path to one")
    checkpoint: str = Field("", description="Run directory, .pt file or Hub id of the CogACT checkpoint")
    tokenizer: str = Field("", description="Directory of the Llama-2 tokenizer; empty: beside the checkpoint")
    instruction: str = Field(
        "", max_length=LONGEST_INSTRUCTION, description="What to do, in plain words; ~/instruction replaces it"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the policy runs")
    torch_threads: int = Field(0, ge=0, le=256, description="Threads of the policy on a CPU; 0: all cores but one")
    plan_timeout: float = Field(5.0, gt=0, le=60, description="A plan that takes longer is a fault [s]")
    restart_policy: bool = Field(
        False,
        description="Start the policy's process again when it died or hangs; the arm then waits for ~/resume",
    )
    dry_run: bool = Field(
        True, description="Plan and publish everything except commands; the arm moves only when this is false"
    )


def flat_fields(group: type[BaseModel] = Configuration, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All settings as (dotted ROS parameter name, pydantic FieldInfo), groups resolved."""
    for name, field in group.model_fields.items():
        groups = _groups(field.annotation)
        for inner in groups:
            yield from flat_fields(inner, f"{prefix}{name}.")
        if not groups:
            yield prefix + name, field


def _groups(annotation: Any) -> list[type[BaseModel]]:
    """The group that a field is, or those that it may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [group for part in get_args(annotation) for group in _groups(part)]


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return nested


def shown(value: object) -> str:
    """A value as a message shows it: a long one is cut."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def unknown_name(name: str, known: Iterable[str]) -> str:
    """A sentence about a name that is no setting, with the nearest one that is."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"'{name}' is not a setting" + (f"; did you mean '{close[0]}'?" if close else "")


Model = TypeVar("Model", bound=BaseModel)


def validate(group: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Build a settings object, or say what is wrong with the values.

    Args:
        group: The pydantic model to build.
        values: Nested or dotted names to values.
        source: Where the values come from (a file, "the parameters"), for the message.

    Raises:
        ConfigurationError: One sentence per unknown name, wrong type or value out of range.
    """
    try:
        return group.model_validate(_nest(flatten(values)))
    except ValidationError as error:
        known = [name for name, _ in flat_fields(group)]
        sentences = []
        for problem in error.errors():
            name, groups = _place(group, problem["loc"])
            if problem["type"] == "extra_forbidden":
                sentences.append(unknown_name(name, known))
            elif problem["type"].startswith("union_tag"):
                tag = problem["ctx"]["discriminator"].strip("'")
                choices = ", ".join(choice.model_fields[tag].default for choice in groups)
                sentences.append(f"{name}.{tag} = {problem['input'].get(tag)!r}: expected one of {choices}")
            else:
                subject = f"{name} = {shown(problem['input'])}: " if name else ""
                sentences.append(subject + problem["msg"].removeprefix("Value error, "))
        raise ConfigurationError(f"{source}: " + "; ".join(sentences)) from None


def _place(group: type[BaseModel], location: Iterable[str | int]) -> tuple[str, list[type[BaseModel]]]:
    """Where a problem is: the dotted name as the user wrote it, and the groups that may stand there.

    Pydantic's location also says which of several groups it took; the user's name does not.
    """
    names, groups = [], [group]
    for part in location:
        if len(groups) > 1:
            groups = []
            continue
        names.append(str(part))
        fields = groups[0].model_fields if groups else {}
        groups = _groups(fields[part].annotation) if part in fields else []
    return ".".join(names), groups


def load_configuration(robot: str, **overrides: Any) -> Configuration:
    """Settings from a robot YAML, without ROS.

    Args:
        robot: Name of a file in `config/robots`, or a path to one.
        **overrides: Settings that replace the file's.
    """
    path = named_file("robots", robot)
    return validate(Configuration, {**flatten(robot_parameters(path)), **overrides}, str(path))
