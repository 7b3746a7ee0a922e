"""Model and TF are compared; where they differ, the sentence names how far, and from which joint on."""

from collections.abc import Iterable

import numpy as np
import pytest
from bench_arm import JOINTS, MIMIC, PLAIN, POSTURE, arm, true_mimic_pose, with_limit

from sqap_vla_ros.config.robot import Frames
from sqap_vla_ros.control.commands import JointState
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.model_agreement import disagreement
from sqap_vla_ros.perception.transform_tree import TransformTree

NOW_NS = 10**18
FRAMES = Frames(base="base_link", tool="tool0")


def states(positions: Iterable[np.ndarray], end_ns: int = NOW_NS, step_ns: int = 10**7) -> list[JointState]:
    rows = list(positions)
    stamps = end_ns - step_ns * np.arange(len(rows))[::-1]
    return [JointState(row, np.zeros(len(row)), int(stamp)) for row, stamp in zip(rows, stamps, strict=True)]


def tf(T_base_tool: np.ndarray, at_ns: int = NOW_NS, frames: Frames = FRAMES) -> TransformTree:
    """A tree in which the tool is at one place."""
    tree = TransformTree()
    tree.add(frames.base, frames.tool, at_ns, T_base_tool)
    return tree


def tf_of(kinematics: Kinematics, q: np.ndarray, prefix: str = "") -> TransformTree:
    """Every link below the base, as robot_state_publisher sends them."""
    tree, parent, T_base_parent = TransformTree(), "base_link", np.eye(4)
    for link, _, T_base_link in kinematics.chain(q):
        tree.add(prefix + parent, prefix + link, NOW_NS, np.linalg.inv(T_base_parent) @ T_base_link)
        parent, T_base_parent = link, T_base_link
    return tree


def test_a_model_that_tf_was_made_with_agrees() -> None:
    assert disagreement(arm(), FRAMES, tf_of(arm(), POSTURE), states([POSTURE] * 5)) == ""


def test_nothing_is_said_before_both_are_known() -> None:
    assert disagreement(arm(), FRAMES, TransformTree(), states([POSTURE])) == ""
    assert disagreement(arm(), FRAMES, tf(arm().forward(POSTURE)), []) == ""


def test_millimetres_of_calibration_are_no_disagreement() -> None:
    T = arm().forward(POSTURE)
    T[:3, 3] += (0.005, -0.004, 0.003)
    assert disagreement(arm(), FRAMES, tf(T), states([POSTURE])) == ""


def changed(old: str, new: str) -> Kinematics:
    """TF is of the plain arm, the node's model of another one."""
    assert old in PLAIN
    return arm(PLAIN.replace(old, new, 1))


@pytest.mark.parametrize(
    ("model", "joint"),
    [
        (changed('xyz="0 0 0.4"', 'xyz="0 0 0.42"'), "j3"),  # another arm of the family
        (changed('xyz="0 0 0.4"', 'xyz="0 0 0.0004"'), "j3"),  # millimetres taken for metres, the other way round
        (changed('<axis xyz="0 1 0"/>', '<axis xyz="0 -1 0"/>'), "j2"),
        (changed('xyz="0 0 0.05"/></joint>', 'xyz="0 0 0.15"/></joint>'), "flange"),  # the tool frame was moved
        (changed('name="j2" type="revolute"', 'name="j2" type="prismatic"'), "j2"),
        (arm(PLAIN, joints=JOINTS[:2] + JOINTS[3:]), "j3"),
    ],
)
def test_a_model_of_another_arm_is_named_with_distance_and_joint(model: Kinematics, joint: str) -> None:
    q = POSTURE[[JOINTS.index(name) for name in model.joints]]
    sentence = disagreement(model, FRAMES, tf_of(arm(), POSTURE), states([q] * 3))
    assert f"they differ from joint '{joint}' on" in sentence
    distance_m = np.linalg.norm(model.forward(q)[:3, 3] - arm().forward(POSTURE)[:3, 3])
    assert f"'tool0' {distance_m:.3f} m and" in sentence
    assert ("which is not one of command.joints" in sentence) == (len(model.joints) == 5)


def test_a_rotation_alone_is_a_disagreement() -> None:
    turned = changed('<parent link="l6"/><child link="tool0"/><origin xyz="0 0 0.05"', '<parent link="l6"/>'
                     '<child link="tool0"/><origin xyz="0 0 0.05" rpy="0 0 0.7854"')  # fmt: skip
    sentence = disagreement(turned, FRAMES, tf_of(arm(), POSTURE), states([POSTURE]))
    assert "0.000 m and 0.79 rad" in sentence


def test_without_frames_between_base_and_tool_the_distance_is_still_said() -> None:
    sentence = disagreement(
        changed('xyz="0 0 0.4"', 'xyz="0 0 0.5"'), FRAMES, tf(arm().forward(POSTURE)), states([POSTURE])
    )
    assert "0.100 m" in sentence and "they differ" not in sentence


def test_a_frame_prefix_does_not_hide_a_disagreement() -> None:
    frames = Frames(base="arm_a/base_link", tool="arm_a/tool0")
    tree = tf_of(arm(), POSTURE, "arm_a/")
    assert disagreement(arm(PLAIN, frames.base, frames.tool), frames, tree, states([POSTURE])) == ""
    longer = arm(PLAIN.replace('xyz="0 0 0.4"', 'xyz="0 0 0.5"'), frames.base, frames.tool)
    assert "they differ from joint 'j3' on (link 'l3')" in disagreement(longer, frames, tree, states([POSTURE]))


def test_the_mimicking_arm_agrees_and_the_one_whose_mimic_is_lost_does_not() -> None:
    tree, lost = tf(true_mimic_pose(POSTURE)), arm(MIMIC.replace('<mimic joint="j2" multiplier="-1"/>', ""))
    assert disagreement(arm(MIMIC), FRAMES, tree, states([POSTURE])) == ""
    assert "0.251 m" in disagreement(lost, FRAMES, tree, states([POSTURE]))


def test_a_moving_arm_is_compared_along_its_path_because_clocks_differ() -> None:
    path = [POSTURE + (0, 0.002 * step, 0, 0, 0, 0) for step in range(100)]  # 1 s at 0.2 rad/s
    late = tf(arm().forward(path[-15]))  # where the arm was 0.14 s before
    assert disagreement(arm(), FRAMES, late, states(path)) == ""
    assert disagreement(arm(), FRAMES, tf(arm().forward(path[-80])), states(path))


def test_positions_between_two_slow_joint_states_are_interpolated() -> None:
    slow = states([POSTURE, POSTURE + 0.2], end_ns=NOW_NS + 5 * 10**8, step_ns=10**9)
    assert disagreement(arm(), FRAMES, tf(arm().forward(POSTURE + 0.1)), slow) == ""


def test_joints_far_beyond_the_limits_are_named_although_tf_agrees() -> None:
    q = np.array([0.1, 45.0, 0.9, 0.1, 0.7, 0.3])  # degrees, which robot_state_publisher believes as well
    sentence = disagreement(arm(), FRAMES, tf(arm().forward(q)), states([q]))
    assert "joint 'j2' is measured at 45.000, and the robot model allows -2.200 to 2.200" in sentence


def test_an_arm_that_stands_a_little_beyond_a_limit_is_no_disagreement() -> None:
    narrow = arm(with_limit("j2", '<limit lower="-0.4" upper="0.4" effort="1" velocity="1"/>'))
    assert disagreement(narrow, FRAMES, tf(arm().forward(POSTURE)), states([POSTURE])) == ""
