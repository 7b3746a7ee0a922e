"""What a controller's own settings mean for this node: one finding per setting that its release has.

The settings are those of joint_trajectory_controller (and UR's scaled one), MoveIt Servo, the Cartesian controllers and
the grippers' controllers.
"""

from collections.abc import Iterator

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.ros.controller_facts import ControllerFacts
from sqap_vla_ros.tools.doctor.findings import Finding, Level

_ABOUT = "controller settings"
_IN_ITS_FILE = "set it in the controller's parameter file and start it again: it cannot be changed while it runs"


def _finding(is_good: bool, what: str, advice: str, bad: Level = Level.WARNING, about: str = _ABOUT) -> Finding:
    return Finding(Level.OK if is_good else bad, about, what, "" if is_good else advice)


def arm_settings(
    facts: ControllerFacts, configuration: Configuration, speed_scaling: float | None = None
) -> Iterator[Finding]:
    """Judge the settings of the arm's controller.

    Args:
        facts: The controller's answers.
        configuration: The robot's settings.
        speed_scaling: The factor that was reported last; None: none was.
    """
    output = configuration.command.output
    if output == "joint_trajectory":
        yield from _joints(facts, configuration)
        yield from _trajectories(facts)
        yield from _scaling(facts, speed_scaling)
        yield from _tolerances(facts)
    elif output == "cartesian_pose":
        yield from _cartesian(facts, configuration)
    else:
        yield from _servo(facts, configuration)


def _joints(facts: ControllerFacts, configuration: Configuration) -> Iterator[Finding]:
    if "joints" not in facts.parameters:
        return
    theirs, ours = list(facts.parameters["joints"]), list(configuration.command.joints)
    strange, missing = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    if strange:
        what = f"{facts.name} has no {', '.join(strange)} and rejects every command; its joints: {', '.join(theirs)}"
    elif missing and not facts.is_set("allow_partial_joints_goal"):
        what = f"{facts.name} also moves {', '.join(missing)}: it rejects commands without them"
    else:
        rest = f", and holds {', '.join(missing)}" if missing else ""
        yield Finding(Level.OK, "controller joints", f"{facts.name} moves command.joints{rest}")
        return
    yield Finding(Level.PROBLEM, "controller joints", what, "correct command.joints, or the controller's joints")


def _trajectories(facts: ControllerFacts) -> Iterator[Finding]:
    name = "interpolate_from_desired_state"
    desired = facts.is_set(name, "open_loop_control")
    if desired is not None:
        meaning = (
            f"{name} is on: a new trajectory goes on from what was commanded last, as the node plans it"
            if desired
            else f"{name} is off: each new trajectory starts from where the arm was measured, behind what was "
            "commanded, so the motion jerks with every plan"
        )
        yield _finding(desired, meaning, f"{name}: true; {_IN_ITS_FILE}")
    replaces = facts.is_set("allow_trajectory_replacement")
    if replaces is not None:
        meaning = (
            "allow_trajectory_replacement is on: the node sends each trajectory from a point ahead on, planned with a "
            "part of the limits, because a stamp in the past counts as now"
            if replaces
            else "allow_trajectory_replacement is off: the node sends what is under way with each trajectory, and it "
            "goes on exactly so"
        )
        advice = f"to use all of the limits: ros2 param set {facts.node} allow_trajectory_replacement false"
        yield Finding(Level.OK, _ABOUT, meaning, advice if replaces else "")
    if facts.is_set("positions_upsampling.enable"):
        what = "positions_upsampling is on: nothing changes, the node's points have velocities and pass through"
        yield Finding(Level.OK, _ABOUT, what)
    method = facts.parameters.get("interpolation_method", "splines")
    if method != "splines":
        what = f"interpolation_method is {method}: the arm jumps from point to point"
        yield Finding(Level.PROBLEM, _ABOUT, what, f"interpolation_method: splines; {_IN_ITS_FILE}")
    interfaces = list(facts.parameters.get("command_interfaces", ()))
    if interfaces and "position" not in interfaces:
        what = f"it commands {' and '.join(interfaces)}, no position: how well it follows is a matter of its gains"
        yield Finding(Level.WARNING, _ABOUT, what, "a dry run does not show this: try it slowly, without load")
    timeout_s = facts.parameters.get("cmd_timeout", 0.0)
    if timeout_s:
        what = f"cmd_timeout is {timeout_s:g} s: nothing changes, every trajectory of the node ends at rest"
        yield Finding(Level.OK, _ABOUT, what)


def _scaling(facts: ControllerFacts, factor: float | None) -> Iterator[Finding]:
    interface = facts.parameters.get("speed_scaling.state_interface") or facts.parameters.get(
        "speed_scaling_interface_name", ""
    )
    if factor is not None:
        what = f"speed scaling is reported, now {factor:.0%}: the node plans in the controller's time"
        yield _finding(factor > 0, what, "the arm is paused: raise the speed", about="speed scaling")
    elif interface:
        what = f"{facts.name} scales its speed by {interface}, and nobody reports the factor"
        advice = "start speed_scaling_state_broadcaster, or name its topic in topics.speed_scaling"
        yield Finding(Level.WARNING, "speed scaling", what, advice)
    initial = facts.parameters.get("speed_scaling.initial_scaling_factor", 1.0)
    if factor is None and initial != 1.0:
        what = f"speed_scaling.initial_scaling_factor is {initial:g}, and nobody reports the factor"
        advice = "set it to 1, or install control_msgs, so that the node reads the controller's state"
        yield Finding(Level.WARNING, "speed scaling", what, advice)


def _tolerances(facts: ControllerFacts) -> Iterator[Finding]:
    path = {
        name.removeprefix("constraints.").removesuffix(".trajectory"): value
        for name, value in facts.parameters.items()
        if name.endswith(".trajectory") and value > 0
    }
    if path:
        tightest = min(path, key=lambda joint: path[joint])
        what = (
            f"tolerance on the way: an arm that is {path[tightest]:g} rad behind ({tightest} is the tightest) is held "
            "by the controller, which drops the trajectory; the node then stops with not_following"
        )
        yield Finding(Level.OK, "tolerances", what)
    elif any(name.startswith("constraints.") for name in facts.parameters):
        what = "no tolerance on the way: the controller pulls a blocked arm on; the node stops it with not_following"
        yield Finding(Level.OK, "tolerances", what)
    goal_s = facts.parameters.get("constraints.goal_time", 0.0)
    if goal_s:
        what = (
            f"goal_time is {goal_s:g} s: an arm outside its goal tolerance that long after the end is held where it is"
        )
        yield Finding(Level.OK, "tolerances", what)


def _servo(facts: ControllerFacts, configuration: Configuration) -> Iterator[Finding]:
    servo = {
        name.removeprefix("moveit_servo."): value
        for name, value in facts.parameters.items()
        if name.startswith("moveit_servo.")
    }
    if configuration.command.output == "servo_twist" and "command_in_type" in servo:
        units = servo["command_in_type"]
        meaning = "twists are m/s and rad/s" if units == "speed_units" else "twists of m/s are taken as joystick shares"
        advice = "command_in_type: speed_units in Servo's parameter file"
        yield _finding(units == "speed_units", f"command_in_type is {units}: {meaning}", advice, Level.PROBLEM)
        about_tool = servo.get("apply_twist_commands_about_ee_frame", True)
        meaning = "the tool turns about itself" if about_tool else "turning the tool would also swing it about the base"
        advice = "apply_twist_commands_about_ee_frame: true in Servo's parameter file"
        what = f"apply_twist_commands_about_ee_frame is {str(about_tool).lower()}: {meaning}"
        yield _finding(about_tool, what, advice, Level.PROBLEM)
    timeout_s = servo.get("incoming_command_timeout")
    if timeout_s is not None:
        spacing_s = configuration.command.point_spacing
        what = f"incoming_command_timeout is {timeout_s:g} s: Servo halts the arm that is sent nothing"
        advice = f"raise it to 0.1 s, or lower command.point_spacing ({spacing_s:g} s between two commands)"
        yield _finding(timeout_s > 2 * spacing_s, what, advice)
    linear, rotational = configuration.limits.tool_velocity
    for scale, limit, unit in (("linear", linear, "m/s"), ("rotational", rotational, "rad/s")):
        largest = servo.get(f"scale.{scale}")
        if largest is not None and servo.get("command_in_type") != "unitless":
            what = f"scale.{scale} is {largest:g} {unit}, limits.tool_velocity {limit:g} {unit}"
            advice = (
                "lower limits.tool_velocity: Servo refuses or slows down what is faster, and the node does not know"
            )
            yield _finding(largest >= limit, what, advice)


def _cartesian(facts: ControllerFacts, configuration: Configuration) -> Iterator[Finding]:
    frames = configuration.frames
    for name, setting, frame in (
        ("robot_base_link", "frames.base", frames.base),
        ("end_effector_link", "frames.tool", frames.tool),
    ):
        if name in facts.parameters:
            theirs = facts.parameters[name]
            meaning = f"{name} is {theirs}, {setting} is {frame}"
            advice = f"make them the same: poses of {frame} would be taken for those of {theirs}"
            yield _finding(theirs.lstrip("/") == frame.lstrip("/"), meaning, advice, Level.PROBLEM)


def gripper_settings(facts: ControllerFacts, configuration: Configuration) -> Iterator[Finding]:
    """Judge the settings of the gripper's controller."""
    command, parameters = configuration.command, facts.parameters
    joints = list(parameters.get("joints") or ([parameters["joint"]] if parameters.get("joint") else []))
    if joints:
        what = f"{facts.name} moves {', '.join(joints)}, command.gripper_joint is {command.gripper_joint}"
        yield _finding(command.gripper_joint in joints, what, "correct command.gripper_joint", about="gripper")
    if command.gripper_output == "parallel_action" and "max_effort_interface" in parameters:
        used = bool(parameters["max_effort_interface"])
        what = "max_effort_interface is not set: command.gripper_effort does nothing, the controller's own limit holds"
        if command.gripper_effort and not used:
            yield Finding(
                Level.WARNING, "gripper", what, "set it in the controller's parameter file, or gripper_effort: 0"
            )
    if facts.is_set("allow_stalling") is False:
        what = "allow_stalling is off: a grasp ends as failed, and the log says that the controller gave up"
        yield Finding(Level.OK, "gripper", what, "allow_stalling: true in the controller's parameter file")
