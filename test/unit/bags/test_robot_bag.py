"""Bags with joint states: without transforms poses follow from the URDF; with both, the robot model is compared."""

from pathlib import Path

import numpy as np
import pytest
from arm_bags import SETTINGS, arm_bag, arm_entries, joint_states, posture
from bench_arm import JOINTS, MIMIC, PLAIN, POSTURE, arm, true_mimic_pose
from synthetic_bags import write_messages

from sqap_vla_ros.bags.observations import observations
from sqap_vla_ros.bags.robot_bag import RobotBag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.control.urdf_transforms import UrdfTransforms
from sqap_vla_ros.core.observation import Observation


def replayed(bag: Path, **settings: object) -> tuple[list[Observation | tuple[int, str]], str, list[str]]:
    """What is planned on, how poses were computed, and the notes."""
    configuration = validate(Configuration, SETTINGS | settings, "test")
    notes: list[str] = []
    with RobotBag(bag, configuration) as opened:
        topics = find_topics(opened, configuration)
        found = observations(opened, topics, configuration, on_progress=lambda _: None, on_note=notes.append)
        return list(found), opened.poses, notes


@pytest.mark.parametrize("urdf", [PLAIN, MIMIC], ids=["plain", "mimic"])
def test_poses_follow_from_joint_states_as_pinocchio_has_them(tmp_path: Path, urdf: str) -> None:
    ticks, poses, notes = replayed(arm_bag(tmp_path / "bag", urdf=urdf))
    assert len(ticks) == 10 and notes == []
    assert poses == (
        "the recording has no transforms 'base_link' -> 'tool0': poses by forward kinematics, from the joint states on "
        "/joint_states and the URDF of /robot_description"
    )
    true_pose = true_mimic_pose if urdf is MIMIC else arm().forward
    for tick in ticks:
        assert isinstance(tick, Observation)
        np.testing.assert_allclose(tick.T_base_tool, true_pose(posture(tick.stamp_ns)), atol=1e-5)
        assert tick.tool_px is not None


def test_a_camera_on_the_wrist_is_placed_by_the_computed_transforms(tmp_path: Path) -> None:
    ticks, _, _ = replayed(arm_bag(tmp_path / "bag", camera_parent="l4"))
    reasons = {tick.no_ring_reason for tick in ticks if isinstance(tick, Observation)}
    assert len(ticks) == 10 and not any("no transform" in reason for reason in reasons)


def test_the_urdf_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "arm.urdf"
    file.write_text(PLAIN, encoding="utf-8")
    ticks, poses, _ = replayed(arm_bag(tmp_path / "bag", urdf=""), **{"command.robot_model": str(file)})
    assert isinstance(ticks[0], Observation) and "command.robot_model" in poses


def test_without_a_urdf_it_is_said_what_to_give(tmp_path: Path) -> None:
    ticks, poses, _ = replayed(arm_bag(tmp_path / "bag", urdf=""))
    assert not any(isinstance(tick, Observation) for tick in ticks)
    assert poses.endswith("give --urdf, and the poses follow from the joint states on /joint_states")


@pytest.mark.parametrize(
    ("urdf", "sentence"),
    [("<robot name='x'/>", "it has no links"), (PLAIN.replace('"tool0"', '"hand"'), "no frame 'tool0'")],
)
def test_a_urdf_that_does_not_fit_is_said(tmp_path: Path, urdf: str, sentence: str) -> None:
    _, poses, _ = replayed(arm_bag(tmp_path / "bag", urdf=urdf))
    assert "cannot be computed from the joint states" in poses and sentence in poses


def test_of_several_topics_with_joint_states_the_arms_is_read(tmp_path: Path) -> None:
    entries = [
        (at_ns, "/left/joint_states" if topic == "/joint_states" and len(message.name) == 6 else topic, message)
        for at_ns, topic, message in arm_entries()
    ]
    ticks, poses, _ = replayed(write_messages(tmp_path / "bag", entries))
    assert len(ticks) == 10 and isinstance(ticks[0], Observation) and "/left/joint_states" in poses


def test_an_arm_in_two_halves_has_poses(tmp_path: Path) -> None:
    entries = []
    for at_ns, topic, message in arm_entries():
        if topic == "/joint_states" and len(message.name) == 6:
            entries += [
                (at_ns, topic, joint_states(at_ns, JOINTS[part], message.position[part]))
                for part in (slice(3), slice(3, 6))
            ]
        else:
            entries.append((at_ns, topic, message))
    ticks, _, _ = replayed(write_messages(tmp_path / "bag", entries))
    assert len(ticks) == 10 and isinstance(ticks[0], Observation)


def test_a_frame_prefix_stands_before_all_computed_frames(tmp_path: Path) -> None:
    prefixed = {"frames.base": "arm_a/base_link", "frames.tool": "arm_a/tool0"}
    ticks, poses, _ = replayed(arm_bag(tmp_path / "bag", prefix="arm_a/"), **prefixed)
    assert "forward kinematics" in poses and isinstance(ticks[0], Observation) and ticks[0].tool_px is not None


def test_recorded_transforms_are_used_and_agree_with_the_model(tmp_path: Path) -> None:
    ticks, poses, notes = replayed(arm_bag(tmp_path / "bag", tool_pose=arm().forward))
    assert (len(ticks), poses, notes) == (10, "", [])


def test_a_recording_in_which_model_and_transforms_disagree_is_said(tmp_path: Path) -> None:
    lost = MIMIC.replace('<mimic joint="j2" multiplier="-1"/>', "")
    ticks, poses, [note] = replayed(arm_bag(tmp_path / "bag", urdf=lost, tool_pose=true_mimic_pose))
    assert len(ticks) == 10 and poses == ""
    assert note.startswith("at 10 of 10 moments the robot model has 'tool0' 0.2")


def test_a_model_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    swapped = PLAIN.replace('lower="-2.2" upper="2.2"', 'lower="2.2" upper="-2.2"', 1)
    _, _, [note] = replayed(arm_bag(tmp_path / "bag", urdf=swapped, tool_pose=arm().forward))
    assert "'j2' has the position limits 2.2 to -2.2 rad" in note


def test_a_setting_that_takes_the_place_of_the_images_frame_is_said(tmp_path: Path) -> None:
    bag = arm_bag(tmp_path / "bag", tool_pose=arm().forward)
    _, _, [note] = replayed(bag, **{"frames.camera": "another_optical_frame"})
    assert "the images' frame_id is 'camera', frames.camera is 'another_optical_frame'" in note
    assert replayed(bag, **{"frames.camera": "/camera"})[2] == []


def test_slides_fixed_joints_and_rotated_origins_are_as_in_pinocchio() -> None:
    text = PLAIN.replace('name="j3" type="revolute"', 'name="j3" type="prismatic"').replace(
        'xyz="0 0 0.4"', 'xyz="0.1 -0.2 0.4" rpy="0.3 -0.4 0.5"'
    )
    text = text.replace('<axis xyz="0 1 0"/>', '<axis xyz="1 2 2"/>')
    T_base_link = {"base_link": np.eye(4)}
    transforms = UrdfTransforms(text, "base_link", "tool0")
    positions = {f"j{number}": value for number, value in enumerate(POSTURE, start=1)}
    for parent, child, T_parent_child in (*transforms.moved(positions), *transforms.fixed()):
        T_base_link[child] = T_base_link[parent] @ T_parent_child
    np.testing.assert_allclose(T_base_link["tool0"], arm(text).forward(POSTURE), atol=1e-12)
