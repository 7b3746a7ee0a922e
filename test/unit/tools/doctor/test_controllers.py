"""What the doctor says about a controller, from its answers."""

from typing import Any

import pytest

from sqap_vla_ros.config.robot import Command, Configuration, Frames, Limits, Topics
from sqap_vla_ros.ros.controller_facts import ControllerFacts, Controllers, asked_for
from sqap_vla_ros.ros.controller_identity import Audience, Listener, audience
from sqap_vla_ros.tools.doctor.controllers import check_controllers
from sqap_vla_ros.tools.doctor.findings import Level

TOPIC = "/arm_controller/joint_trajectory"
NODE = "/arm_controller"
TYPE = "joint_trajectory_controller/JointTrajectoryController"
ARM = audience(TOPIC, [Listener(NODE, b"1")], "")
RIGHT = {"joints": ["b", "a"], "interpolate_from_desired_state": True, "command_interfaces": ["position"]}


def configuration(**command: Any) -> Configuration:
    gripper = {"gripper_joint": "knuckle"} if "gripper_output" in command else {}
    topics = Topics(command=TOPIC, gripper_command="/hand/gripper_cmd" if gripper else "")
    return Configuration(topics=topics, command=Command(**{"joints": ("a", "b"), **gripper, **command}))


def found(controllers: Controllers, settings: Configuration | None = None) -> list[str]:
    """The findings as "level about: what -> advice"."""
    findings = check_controllers(controllers, settings or configuration())
    return [f"{one.level} {one.about}: {one.what} -> {one.advice}" for one in findings]


def of_arm(settings: Configuration | None = None, **parameters: Any) -> list[str]:
    names = {name.replace("__", "."): value for name, value in parameters.items()}
    facts = ControllerFacts(NODE, TYPE, "active", parameters=RIGHT | names)
    return found(Controllers(ARM, facts={"command": facts}), settings)


def one(lines: list[str], part: str) -> str:
    """The only finding that says this."""
    (line,) = (line for line in lines if part in line)
    return line


def test_a_bag_says_nothing_about_controllers() -> None:
    assert check_controllers(None, configuration()) == []


def test_a_controller_as_it_should_be_is_named_and_has_no_warning() -> None:
    lines = of_arm()
    assert all(line.startswith("ok ") for line in lines), lines
    assert f"{NODE} takes the commands" in lines[0]
    assert one(lines, "controller state") == f"ok controller state: {NODE} is active, of type {TYPE} -> "
    assert one(lines, "controller joints") == "ok controller joints: arm_controller moves command.joints -> "


def test_who_only_listens_is_said_too() -> None:
    arm = audience(TOPIC, [Listener(NODE, b"1"), Listener("/rosbag2_recorder", b"2")], "")
    assert "/rosbag2_recorder only listens" in found(Controllers(arm))[0]


def test_a_recorder_alone_is_no_controller() -> None:
    arm = audience(TOPIC, [Listener("/rosbag2_recorder", b"2")], "")
    (line,) = found(Controllers(arm))
    assert line.startswith("warning controllers: ") and "listens only /rosbag2_recorder" in line


def test_nobody_on_the_topic_is_a_warning() -> None:
    (line,) = found(Controllers(Audience(TOPIC)))
    assert line.startswith(f"warning controllers: no subscriber on {TOPIC} -> start the controller")


def test_a_controller_of_another_type_is_a_problem() -> None:
    arm = audience(TOPIC, [Listener(NODE, b"1", "takes geometry_msgs/msg/TwistStamped")], "")
    assert found(Controllers(arm))[0].startswith(f"problem controllers: {NODE} takes geometry_msgs/msg/TwistStamped")


def test_where_the_controller_is_a_guess_it_is_said_what_to_set() -> None:
    one_driver = audience(TOPIC, [Listener("/driver", b"1")], "")
    assert "set command.controller" in found(Controllers(one_driver))[0]
    two = audience(TOPIC, [Listener("/driver", b"1"), Listener("/dashboard", b"2")], "")
    assert found(Controllers(two))[0].startswith("warning controllers: /dashboard and /driver takes the commands")


@pytest.mark.parametrize("state", ["inactive", "unconfigured", "finalized"])
def test_a_controller_that_is_not_active_is_a_problem(state: str) -> None:
    facts = ControllerFacts(NODE, TYPE, state)
    line = one(found(Controllers(ARM, facts={"command": facts})), "controller state")
    assert line.startswith(f"problem controller state: {NODE} is {state}") and "set_controller_state" in line


def test_what_could_not_be_asked_is_said() -> None:
    facts = ControllerFacts(NODE, unmanaged="there is no controller manager", silent="there is no service /x")
    lines = found(Controllers(ARM, facts={"command": facts}))
    assert "not known, there is no controller manager" in one(lines, "controller state")
    assert "not known, there is no service /x" in one(lines, "controller settings")


@pytest.mark.parametrize(
    ("theirs", "partial", "level", "part"),
    [
        (["a"], False, Level.PROBLEM, "has no b and rejects every command"),
        (["a", "b", "rail"], False, Level.PROBLEM, "also moves rail: it rejects commands without them"),
        (["a", "b", "rail"], True, Level.OK, "moves command.joints, and holds rail"),
        (["b", "a"], False, Level.OK, "moves command.joints"),
    ],
)
def test_joints_are_compared(theirs: list[str], partial: bool, level: Level, part: str) -> None:
    line = one(of_arm(joints=theirs, allow_partial_joints_goal=partial), "controller joints")
    assert line.startswith(level) and part in line


@pytest.mark.parametrize(
    ("parameters", "level", "part"),
    [
        ({"interpolate_from_desired_state": False}, "warning", "the motion jerks with every plan"),
        ({"interpolate_from_desired_state": False, "open_loop_control": True}, "ok", "goes on from what was commanded"),
        ({"allow_trajectory_replacement": True}, "ok", "a stamp in the past counts as now"),
        ({"allow_trajectory_replacement": False}, "ok", "sends what is under way with each trajectory"),
        ({"positions_upsampling__enable": True}, "ok", "the node's points have velocities and pass through"),
        ({"interpolation_method": "none"}, "problem", "the arm jumps from point to point"),
        ({"command_interfaces": ["effort"]}, "warning", "it commands effort, no position"),
        ({"cmd_timeout": 0.5}, "ok", "every trajectory of the node ends at rest"),
        ({"constraints__a__trajectory": 0.2, "constraints__b__trajectory": 0.1}, "ok", "0.1 rad behind (b is"),
        ({"constraints__a__trajectory": 0.0, "constraints__a__goal": 0.1}, "ok", "no tolerance on the way"),
        ({"constraints__goal_time": 2.0}, "ok", "goal_time is 2 s"),
        ({"speed_scaling__state_interface": "speed/factor"}, "warning", "and nobody reports the factor"),
        ({"speed_scaling_interface_name": "speed_scaling/speed_scaling_factor"}, "warning", "nobody reports"),
        ({"speed_scaling__initial_scaling_factor": 0.5}, "warning", "initial_scaling_factor is 0.5"),
    ],
)
def test_each_setting_is_said_with_its_meaning(parameters: dict[str, Any], level: str, part: str) -> None:
    assert one(of_arm(**parameters), part).startswith(f"{level} ")


@pytest.mark.parametrize("factor", [0.5, 1.0, 0.0])
def test_the_speed_scaling_that_is_reported_is_said(factor: float) -> None:
    facts = ControllerFacts(NODE, TYPE, "active", parameters={"speed_scaling.state_interface": "speed/factor"})
    line = one(found(Controllers(ARM, facts={"command": facts}, speed_scaling=factor)), "speed scaling")
    assert f"now {factor:.0%}" in line and line.startswith("ok" if factor else "warning")


@pytest.mark.parametrize(
    ("parameters", "level", "part"),
    [
        ({"command_in_type": "unitless"}, "problem", "twists of m/s are taken as joystick shares"),
        ({"command_in_type": "speed_units"}, "ok", "twists are m/s and rad/s"),
        (
            {"command_in_type": "speed_units", "apply_twist_commands_about_ee_frame": False},
            "problem",
            "swing it about the base",
        ),
        ({"incoming_command_timeout": 0.02}, "warning", "Servo halts the arm"),
        ({"incoming_command_timeout": 0.1}, "ok", "Servo halts the arm"),
        ({"command_in_type": "speed_units", "scale.linear": 0.2}, "warning", "scale.linear is 0.2 m/s"),
        ({"command_in_type": "speed_units", "scale.rotational": 0.8}, "ok", "scale.rotational is 0.8 rad/s"),
    ],
)
def test_servos_settings_are_said_with_their_meaning(parameters: dict[str, Any], level: str, part: str) -> None:
    settings = Configuration(
        topics=Topics(command=TOPIC), limits=Limits(tool_velocity=(0.25, 0.8)), command=Command(output="servo_twist")
    )
    facts = ControllerFacts(NODE, parameters={f"moveit_servo.{name}": value for name, value in parameters.items()})
    assert one(found(Controllers(ARM, facts={"command": facts}), settings), part).startswith(f"{level} ")


def test_a_cartesian_controllers_frames_are_compared() -> None:
    settings = Configuration(
        topics=Topics(command=TOPIC),
        frames=Frames(base="base_link", tool="tcp"),
        command=Command(output="cartesian_pose"),
    )
    facts = ControllerFacts(NODE, parameters={"robot_base_link": "base_link", "end_effector_link": "tool0"})
    lines = found(Controllers(ARM, facts={"command": facts}), settings)
    assert one(lines, "robot_base_link").startswith("ok ")
    assert one(lines, "end_effector_link is tool0, frames.tool is tcp").startswith("problem ")


@pytest.mark.parametrize(
    ("output", "offered", "level", "part"),
    [
        ("action", ("control_msgs/action/GripperCommand",), "ok", "has an action server of"),
        (
            "action",
            ("control_msgs/action/ParallelGripperCommand",),
            "problem",
            "set command.gripper_output: parallel_action",
        ),
        ("parallel_action", ("control_msgs/action/GripperCommand",), "problem", "set command.gripper_output: action"),
        ("parallel_action", ("my_msgs/action/Grasp",), "problem", "of type my_msgs/action/Grasp"),
        ("parallel_action", (), "warning", "no action server on /hand/gripper_cmd"),
    ],
)
def test_the_grippers_action_is_compared_by_type(output: str, offered: tuple[str, ...], level: str, part: str) -> None:
    controllers = Controllers(ARM, gripper_actions=offered)
    assert one(found(controllers, configuration(gripper_output=output)), part).startswith(f"{level} controllers: ")


def test_a_grippers_topic_without_its_controller_is_a_warning_though_it_is_recorded() -> None:
    hand = audience("/hand/gripper_cmd", [Listener("/rosbag2_recorder", b"2")], "")
    lines = found(Controllers(ARM, gripper=hand), configuration(gripper_output="trajectory"))
    assert one(lines, "/hand/gripper_cmd").startswith("warning controllers: on /hand/gripper_cmd listens only")


def test_a_grippers_settings_are_said_with_their_meaning() -> None:
    parameters = {"joint": "finger", "max_effort_interface": "", "allow_stalling": False}
    facts = ControllerFacts(
        "/hand", "parallel_gripper_action_controller/GripperActionController", "active", "", parameters
    )
    controllers = Controllers(
        ARM,
        gripper_actions=("control_msgs/action/ParallelGripperCommand",),
        facts={"gripper_command": facts},
    )
    lines = found(controllers, configuration(gripper_output="parallel_action", gripper_effort=40.0))
    assert one(lines, "hand moves finger, command.gripper_joint is knuckle").startswith("warning gripper")
    assert one(lines, "max_effort_interface").startswith("warning gripper")
    assert one(lines, "a grasp ends as failed").startswith("ok gripper")


def test_only_what_matters_is_asked_for() -> None:
    offered = ["use_sim_time", "gains.a.p", "joints", "constraints.a.trajectory", "moveit_servo.scale.linear"]
    assert asked_for(offered) == ["joints", "constraints.a.trajectory", "moveit_servo.scale.linear"]
