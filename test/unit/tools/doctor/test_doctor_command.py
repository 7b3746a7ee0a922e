"""`sqap-vla doctor`: what it prints and writes, and its exit code."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_bags import CAMERA_DISTANCE_M, FOCAL_PX, HEIGHT, WIDTH, tool_x_m, write_bag
from synthetic_evidence import evidence

from sqap_vla_ros import cli
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.perception.patches import PATCH_PX
from sqap_vla_ros.reporting.overlay import REASON_COLOURS
from sqap_vla_ros.tools.doctor.picture import WIDTH_PX, write_picture

ROBOT = """/**:
  ros__parameters:
    robot_name: synthetic
    device: cpu
    frames: {base: base, tool: TOOL}
    action: {rate_hz: 10.0}
"""


def doctor(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit code of the command."""
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr("sys.argv", ["sqap-vla", "doctor", *map(str, words)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def robot_file(directory: Path, tool: str = "tool") -> Path:
    path = directory / "robot.yaml"
    path.write_text(ROBOT.replace("TOOL", tool))
    return path


def test_a_bag_of_a_good_set_up_ends_with_0_and_leaves_picture_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    bag = write_bag(tmp_path / "bag")
    assert doctor(monkeypatch, bag, "--robot", robot_file(tmp_path), "--out", out) == 0
    assert "this will work" in capsys.readouterr().out
    content = json.loads((out / "doctor.json").read_text())
    instruction = next(finding for finding in content["findings"] if finding["about"] == "instruction")
    assert "'pick up the can'" in instruction["what"]
    assert cv2.imread(str(out / content["picture"])).shape[1] == WIDTH_PX


def test_a_problem_ends_with_1_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = robot_file(tmp_path, tool="gripper")
    assert doctor(monkeypatch, write_bag(tmp_path / "bag"), "--robot", robot, "--out", tmp_path / "out") == 1
    printed = capsys.readouterr().out
    assert "frame 'gripper' is unknown" in printed and "robot_state_publisher" in printed
    assert json.loads((tmp_path / "out/doctor.json").read_text())["picture"] == ""


def test_a_camera_that_the_bag_does_not_place_is_placed_by_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = robot_file(tmp_path)
    robot.write_text(robot.read_text().replace("tool: tool", "tool: tool, camera: lens"))
    bag = write_bag(tmp_path / "bag")
    assert doctor(monkeypatch, bag, "--robot", robot, "--out", tmp_path / "out") == 1
    assert "'lens' is unknown" in capsys.readouterr().out
    placed = tmp_path / "camera.yaml"
    placed.write_text(f"parent: base\nchild: lens\nxyz: [0.0, 0.0, {-CAMERA_DISTANCE_M}]\nrpy: [0.0, 0.0, 0.0]\n")
    assert doctor(monkeypatch, bag, "--robot", robot, "--out", tmp_path / "placed", "--extrinsic", placed) == 0


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_a_recording_that_breaks_off_is_a_sentence_or_examined_up_to_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    (file,) = write_bag(tmp_path / "bag").glob("*.mcap")
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    code = doctor(monkeypatch, broken, "--robot", robot_file(tmp_path), "--out", tmp_path / "out")
    printed = capsys.readouterr()
    assert (code == 2 and "broken.mcap" in printed.err) or (code < 2 and "everything before the damage" in printed.out)


def test_neither_bag_nor_live_is_a_users_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(monkeypatch) == 2
    assert "give a bag to examine, or --live" in capsys.readouterr().err


def test_the_picture_shows_the_tool_and_its_ring_where_they_are(tmp_path: Path) -> None:
    collected = evidence()
    assert write_picture(collected, 2, tmp_path / "tool.png")
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "tool.png")), cv2.COLOR_BGR2RGB)
    at_ns = collected.observations[-1].stamp_ns
    scale = WIDTH_PX / WIDTH
    u = (WIDTH / 2 + FOCAL_PX * tool_x_m(at_ns) / CAMERA_DISTANCE_M + 0.5) * scale
    v = (HEIGHT / 2 + 0.5) * scale
    arm_of_the_cross = picture[round(v) - 1 : round(v) + 2, round(u) - 8 : round(u) - 3]
    assert (arm_of_the_cross == 255).all(axis=2).any()
    ring = (picture == REASON_COLOURS[Reason.RING]).all(axis=2).nonzero()
    side_px = np.ptp(ring[1]) + 1
    assert side_px == pytest.approx(5 * WIDTH_PX / (224 / PATCH_PX), abs=4)


def test_without_an_image_there_is_no_picture(tmp_path: Path) -> None:
    assert not write_picture(evidence(seconds=0.0), 2, tmp_path / "tool.png")


def test_findings_that_cannot_be_written_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    bag = write_bag(tmp_path / "bag")
    assert doctor(monkeypatch, bag, "--robot", robot_file(tmp_path), "--out", tmp_path / "out") == 2
    assert "give a directory that can be written" in " ".join(capsys.readouterr().err.split())
