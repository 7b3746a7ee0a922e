"""`sqap-vla doctor` on bags with joint states and a robot description: model against TF, and poses without TF."""

import json
from pathlib import Path

import pytest
import yaml
from arm_bags import SETTINGS, arm_bag
from bench_arm import MIMIC, PLAIN, arm, true_mimic_pose, with_limit

from sqap_vla_ros import cli


def examined(bag: Path, monkeypatch: pytest.MonkeyPatch, *words: str, **settings: object) -> tuple[int, dict[str, str]]:
    """Exit code, and the findings by what they are about, joined."""
    robot, out = bag.parent / "robot.yaml", bag.parent / "out"
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in SETTINGS.items()}
    robot.write_text(yaml.safe_dump({"/**": {"ros__parameters": {**listed, "device": "cpu", **settings}}}))
    monkeypatch.setattr("sys.argv", ["sqap-vla", "doctor", str(bag), "--robot", str(robot), "--out", str(out), *words])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    found: dict[str, str] = {}
    for finding in json.loads((out / "doctor.json").read_text())["findings"]:
        about, said = finding["about"], f"{finding['level']}: {finding['what']}"
        found[about] = f"{found[about]}; {said}" if about in found else said
    return code, found


def test_a_model_that_agrees_with_tf_is_found_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = examined(arm_bag(tmp_path / "bag", tool_pose=arm().forward), monkeypatch)
    assert code == 0 and found["robot model"] == "ok: can be used, and agrees with TF at 10 moments"
    assert "poses" not in found


def test_a_model_that_disagrees_with_tf_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = MIMIC.replace('<mimic joint="j2" multiplier="-1"/>', "")
    code, found = examined(arm_bag(tmp_path / "bag", urdf=lost, tool_pose=true_mimic_pose), monkeypatch)
    assert code == 1 and found["robot model"].startswith("problem: at 10 of 10 moments the robot model has 'tool0'")


@pytest.mark.parametrize(
    ("limit", "level", "sentence"),
    [
        ('<limit lower="0" upper="0" effort="0" velocity="0"/>', "problem", "'j3' has the position limits 0 to 0"),
        ("", "problem", "'j3' has no <limit>"),
        ('<limit lower="-2" upper="2" effort="0" velocity="180"/>', "warning", "is it in degrees?"),
    ],
)
def test_limits_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, level: str, sentence: str
) -> None:
    bag = arm_bag(tmp_path / "bag", urdf=with_limit("j3", limit), tool_pose=arm().forward)
    code, found = examined(bag, monkeypatch)
    assert code == (level == "problem") and f"{level}: " in found["robot model"] and sentence in found["robot model"]


def test_poses_without_transforms_are_said_to_be_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = examined(arm_bag(tmp_path / "bag"), monkeypatch)
    assert code == 0 and "poses by forward kinematics, from the joint states on /joint_states" in found["poses"]


def test_a_urdf_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arm.urdf").write_text(PLAIN, encoding="utf-8")
    bag = arm_bag(tmp_path / "bag", urdf="")
    code, found = examined(bag, monkeypatch)
    assert code == 1 and "give --urdf" in found["poses"]
    (tmp_path / "out/doctor.json").unlink()
    for file in (tmp_path / "out").iterdir():
        file.unlink()
    (tmp_path / "out").rmdir()
    code, found = examined(bag, monkeypatch, "--urdf", str(tmp_path / "arm.urdf"))
    assert code == 0 and "the URDF of the robot file's command.robot_model" in found["poses"]


@pytest.mark.parametrize("content", [None, "<robot name='x'/>", PLAIN.replace("<limit ", "<limits ")])
def test_a_urdf_that_cannot_be_used_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    file = tmp_path / "arm.urdf"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["sqap-vla", "doctor", "any", "--urdf", str(file), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code not in (0, None) and not (tmp_path / "out").exists()
    said = f"{end.value.code} {capsys.readouterr().err}"
    assert "--urdf: " in said and "arm.urdf" in said and "Traceback" not in said


def test_a_setting_in_place_of_the_images_frame_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = arm_bag(tmp_path / "bag", tool_pose=arm().forward)
    _, found = examined(bag, monkeypatch, **{"frames.camera": "another"})
    assert found["camera frame"].startswith("warning: the images' frame_id is 'camera', frames.camera is 'another'")
