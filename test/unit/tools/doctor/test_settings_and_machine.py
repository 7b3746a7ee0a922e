"""What is said about settings, checkpoint and machine."""

import json
import math
from pathlib import Path

import pytest
from synthetic_evidence import configuration, evidence, levels, words

from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.requirements import Requirement
from sqap_vla_ros.policies.cogact.policy import CogACTPolicy
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.tools.doctor import machine, speed
from sqap_vla_ros.tools.doctor.findings import Finding, Level, findings_table, has_problem, verdict, write_findings
from sqap_vla_ros.tools.doctor.settings import (
    action_words,
    check_checkpoint,
    check_convention,
    check_instruction,
    tool_frame_words,
)
from sqap_vla_ros.tools.doctor.speed import check_policies
from sqap_vla_ros.tools.doctor.topics import check_topics
from sqap_vla_ros.vlm.checkpoint import open_checkpoint

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of a tiny random checkpoint; not to be changed."""
    return write_random_checkpoint(tmp_path_factory.mktemp("run") / "tiny", "tiny")


@pytest.fixture(scope="module")
def observations() -> tuple[Observation, ...]:
    """Some that can be planned on."""
    return tuple(evidence(seconds=0.5).observations)


def test_the_convention_is_told_in_words_that_a_data_sheet_has() -> None:
    told = configuration(action__rotation="euler_difference", action__rate_hz=5.0, action__gripper_open=0)
    words = action_words(told.action, told.frames)
    assert (
        "the motion that the tool achieved in 200 ms (5 Hz)" in words and "differences of roll, pitch and yaw" in words
    )
    assert "along the axes of 'base'" in words and "gripper 0 is open" in words


def test_another_convention_than_that_of_the_same_data_is_warned_about() -> None:
    ours, *_ = check_convention(configuration())
    assert ours.level == OK and len(check_convention(configuration())) == 2
    _, other, _ = check_convention(configuration(statistics_key="bridge_orig"))
    assert other.level == WARNING and "widowx_bridge.yaml" in other.what and "5 Hz" in other.what
    assert len(check_convention(load_configuration("widowx_bridge"))) == 2


def test_topics_that_the_file_and_the_robot_do_not_share_are_named() -> None:
    collected = evidence(seconds=0.0)
    assert check_topics(collected) == []
    collected.bag_topics = frozenset()
    collected.other_topics = {"image": "/wrist/image_raw"}
    image, joints = check_topics(collected)
    assert [found.level for found in (image, joints)] == [WARNING, WARNING]
    assert "the robot's file names /wrist/image_raw" in image.what and "joint_states" in joints.what


def test_the_policys_tool_frame_is_told_in_degrees() -> None:
    frames = configuration(frames__tool_policy_rpy=(0.0, -math.pi / 2, 0.0)).frames
    assert "roll 0°, pitch -90°, yaw 0°" in tool_frame_words(frames)
    assert tool_frame_words(configuration().frames) == "the policy's tool frame is 'tool' itself"


def test_an_instruction_is_wanted() -> None:
    collected = evidence(seconds=0.0)
    assert check_instruction(collected).level == WARNING
    collected.add_instruction("open the drawer")
    assert "'open the drawer'" in check_instruction(collected).what


@pytest.mark.parametrize(
    ("settings", "level", "said"),
    [
        ({}, OK, "'libero': actions up to 6 mm"),
        ({"statistics_key": "bridge_orig"}, PROBLEM, "choose one of: libero"),
        ({"limits__step": 0.001}, WARNING, "limits.step is 1 mm"),
    ],
    ids=["right", "no such key", "long steps"],
)
def test_the_statistics_are_those_of_the_robot(
    run_directory: Path, settings: dict[str, object], level: Level, said: str
) -> None:
    (finding,), _ = check_checkpoint(configuration(checkpoint=str(run_directory), **settings))
    assert finding.level == level and said in finding.what


def test_a_checkpoint_that_is_not_there_is_a_problem_and_none_a_warning() -> None:
    assert [finding.level for finding in check_checkpoint(configuration(checkpoint="/nowhere"))[0]] == [PROBLEM]
    assert [finding.level for finding in check_checkpoint(configuration())[0]] == [WARNING]


def judged(
    run_directory: Path, observations: tuple[Observation, ...], age_s: float, **settings: object
) -> list[Finding]:
    told = configuration(checkpoint=str(run_directory), **settings)
    checkpoint = open_checkpoint(run_directory)
    return check_policies(("sqap", "fp16"), told, checkpoint, observations, age_s, lambda text: None)


def test_plans_of_each_policy_are_measured(run_directory: Path, observations: tuple[Observation, ...]) -> None:
    findings = judged(run_directory, observations, 0.0, freshness__image=5.0)
    assert [finding.about for finding in findings] == ["policy sqap", "policy fp16"]
    assert "a plan takes " in findings[0].what and "GiB of weights" in findings[1].what


def test_a_policy_whose_plans_are_not_finite_is_a_problem(
    run_directory: Path, observations: tuple[Observation, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: CogACTPolicy, observation: Observation) -> ActionChunk:
        raise ValueError("the samples are not finite")

    monkeypatch.setattr(CogACTPolicy, "plan", fail)
    findings = judged(run_directory, observations, 0.0)
    assert [finding.level for finding in findings] == [PROBLEM, WARNING]
    assert "not finite" in findings[0].what


def test_a_plan_that_outlives_its_image_is_a_problem_of_the_policy_that_is_to_run(
    run_directory: Path, observations: tuple[Observation, ...]
) -> None:
    findings = judged(run_directory, observations, 0.3, freshness__image=0.3)
    assert [finding.level for finding in findings] == [PROBLEM, WARNING]
    assert "nothing is commanded" in findings[0].what


def test_a_checkpoint_that_does_not_fit_is_not_loaded(
    run_directory: Path, observations: tuple[Observation, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_free_bytes", lambda configuration: 1000)
    (finding,) = judged(run_directory, observations, 0.0)
    assert finding.level == PROBLEM and "0.0 GiB are free" in finding.what


def test_what_the_system_lacks_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = (Requirement("libGL, for OpenCV", ("libgl1",), lambda: False),)
    monkeypatch.setattr(machine, "_NEEDED", lacking)
    finding = machine.check_system_packages()[0]
    assert finding.level == PROBLEM and finding.advice == "sudo apt-get install libgl1"


def test_a_gpu_that_was_asked_for_and_is_not_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [machine.check_gpu(wanted).level for wanted in ("cuda", "auto", "cpu")] == [PROBLEM, WARNING, OK]


def test_without_ros_bags_can_be_read_nevertheless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    findings = machine.check_python_packages()
    assert levels(findings, "ROS") == [WARNING] and "bags can be read" in words(findings, "ROS")


def test_only_problems_keep_a_set_up_from_working(tmp_path: Path) -> None:
    fine, doubt = Finding(OK, "a", "fine"), Finding(WARNING, "b", "doubtful", "look")
    assert not has_problem([fine, doubt]) and verdict([fine, doubt]) == "this will work; 1 warning"
    wrong = [fine, doubt, Finding(PROBLEM, "c", "wrong", "mend")]
    assert verdict(wrong) == "this will not work: 1 warning, 1 problem"
    assert findings_table("", wrong).row_count == 3
    write_findings(tmp_path / "x.json", {"robot": "r"}, wrong)
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["findings"][2] == {"level": "problem", "about": "c", "what": "wrong", "advice": "mend"}
