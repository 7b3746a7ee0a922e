"""`sqap-vla doctor --live` on a running cell."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros2_control_nodes import ControllerManagerNode, ControllerNode
from std_msgs.msg import String

from sqap_vla_ros import cli
from sqap_vla_ros.testing.synthetic_robot import JOINTS, SyntheticRobot, parameters

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def namespace() -> str:
    """Namespace of the cell."""
    return ""


@pytest.fixture
def robot(ros: None, namespace: str) -> Iterator[SyntheticRobot]:
    """A cell that runs beside the test."""
    robot = SyntheticRobot(width=160, height=120, namespace=namespace)
    robot.create_publisher(String, "sqap_vla/instruction", LATCHED).publish(String(data="open the drawer"))
    executor = SingleThreadedExecutor()
    executor.add_node(robot)
    thread = Thread(target=executor.spin)
    thread.start()
    yield robot
    executor.shutdown()
    thread.join()
    robot.destroy_node()


def examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *more: str, **settings: object
) -> tuple[int, dict[str, str]]:
    """Exit code, and what was found by what it is about; the worst of each."""
    file = tmp_path / "robot.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters(device="cpu", **settings)}}))
    words = ["doctor", "--live", "--seconds", "3", "--robot", str(file), "--out", str(tmp_path / "out"), *more]
    monkeypatch.setattr("sys.argv", ["sqap-vla", *words])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    findings = json.loads((tmp_path / "out/doctor.json").read_text())["findings"]
    return code, {finding["about"]: f"{finding['level']}: {finding['what']}" for finding in findings}


def test_a_running_cell_is_found_to_work(
    robot: SyntheticRobot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, found = examined(tmp_path, monkeypatch)
    assert code == 0, found
    assert found["joint states"].startswith("ok") and found["robot model"].startswith("ok")
    assert "agrees with TF at" in found["robot model"]
    assert "'open the drawer'" in found["instruction"] and "160x120" in found["image format"]
    assert found["controllers"].startswith("ok: ") and found["controllers"].endswith("has a subscriber")
    assert (tmp_path / "out/tool.png").is_file()


def test_a_controller_is_asked_for_its_state_and_settings(
    robot: SyntheticRobot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "joint_trajectory_controller/JointTrajectoryController"
    settings = {
        "joints": list(JOINTS[:5]),
        "interpolate_from_desired_state": True,
        "allow_trajectory_replacement": True,
    }
    nodes = [
        ControllerNode("joint_trajectory_controller", **settings),
        ControllerManagerNode(joint_trajectory_controller=(kind, "inactive")),
    ]
    executor = robot.executor
    assert executor is not None
    for node in nodes:
        executor.add_node(node)
    code, found = examined(tmp_path, monkeypatch)
    for node in nodes:
        executor.remove_node(node)
        node.destroy_node()
    assert code == 1
    assert "/joint_trajectory_controller takes the commands" in found["controllers"]
    assert "/synthetic_robot only listens" in found["controllers"]
    assert f"is inactive, of type {kind}" in found["controller state"]
    assert "has no joint6 and rejects every command" in found["controller joints"]
    assert found["controller settings"].startswith("ok: allow_trajectory_replacement is on")


def test_what_a_cell_lacks_is_found(robot: SyntheticRobot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot.publishes_transforms = robot.publishes_images = False
    code, found = examined(tmp_path, monkeypatch, **{"command.joints": ["elbow"], "topics.command": "/no_such_arm"})
    assert code == 1
    assert found["controllers"] == "warning: no subscriber on /no_such_arm"
    assert found["images"] == "problem: no image on /camera/color/image_raw"
    assert found["TF tool"].startswith("problem: no transform 'base' -> 'tool'")
    assert found["joint states"].startswith("problem: ") and "lack elbow" in found["joint states"]
    assert found["robot model"].startswith("problem: ") and "elbow" in found["robot model"]


@pytest.mark.parametrize("namespace", ["left"])
def test_the_cell_of_one_arm_of_two_is_found_in_its_namespace(
    robot: SyntheticRobot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, found = examined(tmp_path, monkeypatch, "--namespace", "left")
    assert code == 0 and "'open the drawer'" in found["instruction"], found
