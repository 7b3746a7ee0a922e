"""What the doctor says about further cameras and the state."""

from typing import Any

import pytest
from assembled_scenes import MS, T0, image

from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds
from sqap_vla_ros.perception.needs import needs_of
from sqap_vla_ros.tools.doctor.evidence import Evidence
from sqap_vla_ros.tools.doctor.findings import Finding, Level
from sqap_vla_ros.tools.doctor.several_cameras import check_cameras

TWO_CAMERAS = {
    "topics.cameras.names": ["front", "wrist"],
    "topics.cameras.images": ["/front", "/wrist"],
    "topics.cameras.camera_infos": ["", ""],
    "topics.cameras.frames": ["front_optical", "wrist_optical"],
    "state.joints": ["left", "right"],
}
TWO = PolicyNeeds(cameras=2, state="tool", state_size=8)


def findings(
    wrist_late_ms: int = 0, frames: tuple[str, str] = ("front_optical", "wrist_optical"), **settings: Any
) -> list[Finding]:
    evidence = Evidence(validate(Configuration, TWO_CAMERAS | settings, "test"), TWO)
    for number in range(10):
        at_ns = T0 + number * 100 * MS
        evidence.add_image(image(at_ns, frame_id=frames[0]), at_ns)
        if wrist_late_ms >= 0:
            evidence.add_further_image("wrist", image(at_ns + wrist_late_ms * MS, frame_id=frames[1]), at_ns)
    return check_cameras(evidence, "openvla-oft-libero")


def test_cameras_that_are_in_step_are_fine() -> None:
    (finding,) = findings(wrist_late_ms=10)
    assert finding.level is Level.OK and "typically 10 ms" in finding.what


@pytest.mark.parametrize(("late_ms", "says"), [(-1, "no images"), (55, "100% of the first camera's images")])
def test_a_camera_that_is_lost_or_out_of_step_is_a_problem(late_ms: int, says: str) -> None:
    settings = {"freshness.camera_skew": 0.04}
    (finding,) = findings(late_ms, **settings)
    assert finding.level is Level.PROBLEM and "camera wrist" in finding.what and says in finding.what


def test_swapped_cameras_are_told_by_the_frames_of_their_images() -> None:
    problems = [
        finding.what
        for finding in findings(frames=("wrist_optical", "front_optical"))
        if finding.level is Level.PROBLEM
    ]
    assert problems == [
        "images of camera front on /front carry the frame of camera wrist: swapped?",
        "images of camera wrist on /wrist carry the frame of camera front: swapped?",
    ]


def test_a_robot_file_that_lacks_what_the_policy_needs_is_a_problem() -> None:
    finding = findings(**{"state.joints": ["left"]})[0]
    assert finding.level is Level.PROBLEM and "set state.joints" in finding.what


def test_a_policy_file_says_what_it_needs_before_a_checkpoint_is_loaded() -> None:
    robot = validate(Configuration, TWO_CAMERAS, "test")
    assert needs_of(read_policy("sqap"), robot) == ONE_CAMERA
    assert needs_of(read_policy("openvla-oft-libero"), robot) == TWO
    aloha = needs_of(read_policy("openvla-oft-aloha"), robot)
    assert (aloha.cameras, aloha.state, aloha.state_size) == (3, "joints", 2)
