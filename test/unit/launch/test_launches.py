"""What the launch files start, and how a launch ends when something in it is wrong."""

from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from recorded_launch import Context, ProcessEnd, Recorded, context_of, load

from sqap_vla_ros.config.files import ConfigurationError

FILES = {name: ROOT / "launch" / f"{name}.launch.py" for name in ("sqap_vla", "two_arms", "replay", "simulation")}
REAL = {"robot": "libero_panda", "checkpoint": "libero_small"}

# As a file, each of these leaves a launched node on its defaults, or without parameters that ROS could read.
NOT_FOR_ROS = {
    "no parameter file": "limits: {step: 0.1}",
    "a policy file": "name: sqap\npruning: {method: none}",
    "a list": "- 1",
    "empty": "",
    "not YAML": "{[",
    "binary": "\0\1\2",
    "for one node": "sqap_vla: {ros__parameters: {dry_run: true}}",
    "numbers of two types": "/**: {ros__parameters: {limits: {workspace_min: [0, -0.4, 0.02]}}}",
    "no value": "/**:\n  ros__parameters:\n    frames:\n      camera:\n",
    "empty list": "/**: {ros__parameters: {command: {joints: []}}}",
    "list of lists": "/**: {ros__parameters: {command: {joints: [[a], [b]]}}}",
    "alias": "/**: {ros__parameters: {limits: {joint_velocity: &limit [1.0], joint_jerk: *limit}}}",
}


def launch(monkeypatch: pytest.MonkeyPatch, name: str, function: str, **arguments: str) -> tuple[Any, Context]:
    """What a function of a launch file makes of launch arguments, and the launch that it makes it in."""
    module = load(FILES[name], monkeypatch)
    context = context_of(module, **arguments)
    return getattr(module, function)(context), context


def node(monkeypatch: pytest.MonkeyPatch, **arguments: str) -> tuple[dict[str, Any], Context]:
    """How the policy node is started."""
    (_, action), context = launch(monkeypatch, "sqap_vla", "policy_node", **REAL | arguments)
    return action.keywords, context


@pytest.mark.parametrize("name", ["sqap_vla", "replay"])
@pytest.mark.parametrize("content", NOT_FOR_ROS.values(), ids=NOT_FOR_ROS)
def test_a_file_that_is_no_robots_parameter_file_ends_the_launch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str
) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text(content)
    function, more = {"sqap_vla": ("policy_node", {}), "replay": ("play_bag", {"bag": str(tmp_path)})}[name]
    with pytest.raises(ConfigurationError, match="robot.yaml: "):
        launch(monkeypatch, name, function, **REAL | {"robot": str(file)} | more)


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("robot", "/typo.yaml", "/typo.yaml: no such file"),
        ("robot", "ur5", "no ur5.yaml in .*, ur5e, "),
        ("robot", "config/robots/ur5e", "expected the path of a file that ends in .yaml"),
        ("robot", "/", "expected the path of a file"),
        ("policy", "/typo.yaml", "/typo.yaml: no such file"),
        ("policy", "sqapp", "no sqapp.yaml in"),
    ],
)
def test_a_name_that_is_wrong_ends_the_launch(
    monkeypatch: pytest.MonkeyPatch, argument: str, value: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        node(monkeypatch, **{argument: value})


def test_every_robot_that_ships_can_be_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (ROOT / "config" / "robots").glob("*.yaml"):
        assert node(monkeypatch, robot=file.stem)[0]["parameters"][0] == str(file)


def test_arguments_that_are_not_given_leave_the_robots_file_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    keywords, _ = node(monkeypatch, dry_run="true", namespace="left")
    assert keywords["parameters"][1] == {
        "policy": "sqap",
        "checkpoint": "libero_small",
        "dry_run": True,
        "autostart": True,
        "exit_on_failure": False,
        "use_sim_time": False,
    }
    assert keywords["namespace"] == "left"


def test_a_node_that_fails_ends_its_launch_with_an_error_if_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    keywords, context = node(monkeypatch, exit_on_failure="true")
    with pytest.raises(RuntimeError, match="process-1 ended with 1"):
        keywords["on_exit"](ProcessEnd(1), context)
    keywords["on_exit"](ProcessEnd(0), context)
    context.is_shutdown = True
    keywords["on_exit"](ProcessEnd(-2), context)


def test_a_node_that_fails_leaves_the_rest_of_the_cell_running(monkeypatch: pytest.MonkeyPatch) -> None:
    keywords, context = node(monkeypatch)
    keywords["on_exit"](ProcessEnd(1), context)


def replay(monkeypatch: pytest.MonkeyPatch, bag: Path, **arguments: str) -> tuple[Recorded, Context]:
    """The process that waits for the policy, before the player starts."""
    (wait,), context = launch(monkeypatch, "replay", "play_bag", **REAL | {"bag": str(bag)} | arguments)
    return wait, context


def test_what_is_played_belongs_to_the_nodes_namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wait, context = replay(monkeypatch, tmp_path, namespace="left", robot="ur5e")
    assert wait.keywords["cmd"][3:] == ["/left/sqap_vla", "2"]
    (play,) = wait.keywords["on_exit"](ProcessEnd(0), context)
    assert play.keywords["cmd"][play.keywords["cmd"].index("--topics") + 1 :] == [
        "/tf",
        "/tf_static",
        "/left/camera/camera/color/image_raw",
        "/left/camera/camera/color/camera_info",
        "/left/joint_states",
        "/left/robot_description",
        "/left/sqap_vla/instruction",
    ]


def test_a_player_that_dies_ends_the_replay_with_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wait, context = replay(monkeypatch, tmp_path)
    (play,) = wait.keywords["on_exit"](ProcessEnd(0), context)
    with pytest.raises(RuntimeError, match="player of .* ended with 3"):
        play.keywords["on_exit"](ProcessEnd(3), context)


def test_the_end_of_the_bag_ends_the_replay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wait, context = replay(monkeypatch, tmp_path)
    (play,) = wait.keywords["on_exit"](ProcessEnd(0), context)
    (end,) = play.keywords["on_exit"](ProcessEnd(0), context)
    assert type(end.keywords["event"]).__name__ == "Shutdown"


def test_a_replay_that_is_ending_plays_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wait, context = replay(monkeypatch, tmp_path)
    context.is_shutdown = True
    assert wait.keywords["on_exit"](ProcessEnd(0), context) is None


def test_a_policy_that_cannot_be_loaded_ends_a_replay_and_a_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("replay", "simulation"):
        (description,) = load(FILES[name], monkeypatch).generate_launch_description().arguments
        (include,) = (item for item in description if type(item).__name__ == "IncludeLaunchDescription")
        assert dict(include.keywords["launch_arguments"])["exit_on_failure"] == "true"


@pytest.mark.parametrize(
    "wrong", [{"bag": "/no/bag"}, {"rate": "fast"}, {"rate": "0"}, {"rate": "nan"}, {"delay": "-1"}, {"delay": "inf"}]
)
def test_a_replay_that_cannot_work_ends_before_the_policy_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: dict[str, str]
) -> None:
    with pytest.raises((ValueError, OSError), match=next(iter(wrong.values()))):
        launch(monkeypatch, "replay", "play_bag", **REAL | {"bag": str(tmp_path)} | wrong)


def test_a_cell_that_dies_ends_the_simulation_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    module, context = load(FILES["simulation"], monkeypatch), Context({})
    with pytest.raises(RuntimeError, match="the simulated cell ended with 1"):
        module.end(ProcessEnd(1), context)
    (end,) = module.end(ProcessEnd(0), context)
    assert type(end.keywords["event"]).__name__ == "Shutdown"


def test_each_of_two_arms_has_a_namespace_a_robot_file_and_an_instruction_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = load(FILES["two_arms"], monkeypatch)
    context = context_of(module, left="l.yaml", right="r.yaml", left_instruction="push", checkpoint="run")
    (description,) = module.generate_launch_description().arguments
    groups = [item for item in description if type(item).__name__ == "GroupAction"]
    given = [dict(group.arguments[0][0].keywords["launch_arguments"]) for group in groups]
    assert [arguments["namespace"] for arguments in given] == ["left", "right"]
    assert [arguments["robot"].perform(context) for arguments in given] == ["l.yaml", "r.yaml"]
    assert [arguments["instruction"].perform(context) for arguments in given] == ["push", ""]
    declared = {item.arguments[0] for item in load(FILES["sqap_vla"], monkeypatch).ARGUMENTS}
    assert given[0].keys() == given[1].keys() <= declared
