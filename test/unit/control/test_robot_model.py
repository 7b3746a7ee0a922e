"""Robot models that cannot be right are refused, each with a sentence that names the joint."""

import re

import numpy as np
import pytest
from bench_arm import JOINTS, MIMIC, PLAIN, POSTURE, arm, true_mimic_pose, with_limit

from sqap_vla_ros.config.robot import Limits
from sqap_vla_ros.control.model_limits import velocity_doubts
from sqap_vla_ros.control.robot_model import KinematicsError
from sqap_vla_ros.control.trajectory import JointLimits


def limit(lower: object = -2, upper: object = 2, velocity: object = 2) -> str:
    return f'<limit lower="{lower}" upper="{upper}" effort="50" velocity="{velocity}"/>'


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (limit(0, 0), "'j3' has the position limits 0 to 0 rad: fill in"),
        ('<limit effort="0" velocity="0"/>', "'j3' has the position limits 0 to 0 rad: fill in"),
        (limit(2.2, -2.2), "'j3' has the position limits 2.2 to -2.2 rad: fill in"),
        (limit(-120, 120), "'j3' has the position limits -120 to 120 rad: are they degrees?"),
        (limit(-1e16, 1e16), "of type continuous"),
        (limit("-inf", "inf"), "'j3': <limit lower=\"-inf\"> must be a finite number"),
        (limit(-2, "nan"), "'j3': <limit upper=\"nan\"> must be a finite number"),
        (limit(-2, ""), "'j3': <limit upper=\"\"> must be a finite number"),
        (limit(velocity="nan"), "'j3': <limit velocity=\"nan\"> must be a finite number"),
        (limit(velocity=-2), "'j3' has the velocity limit -2"),
        ('<limit lower="-2" upper="2" effort="1"/>', "'j3': its <limit> has no velocity"),
        ('<limit lower="-2" upper="2" velocity="1"/>', "'j3': its <limit> has no effort"),
        ("", "'j3' has no <limit>: add one, or make it continuous"),
    ],
)
def test_limits_that_make_no_sense_are_refused(written: str, sentence: str) -> None:
    with pytest.raises(KinematicsError, match=re.escape(sentence)):
        arm(with_limit("j3", written))


def test_a_velocity_limit_of_0_is_none() -> None:
    assert arm(with_limit("j3", limit(velocity=0))).velocity[2] == np.inf


@pytest.mark.parametrize("velocity", [180, 1e9, 0.0001])
def test_a_velocity_limit_that_is_hardly_meant_is_a_doubt(velocity: float) -> None:
    [doubt] = velocity_doubts(JOINTS, arm(with_limit("j3", limit(velocity=velocity))).velocity, Limits())
    assert "'j3' has the velocity limit" in doubt


def test_usual_velocity_limits_and_none_are_no_doubt() -> None:
    assert velocity_doubts(JOINTS, arm(with_limit("j3", limit(velocity=0))).velocity, Limits()) == ()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('xyz="0 0 0.4"', 'xyz="0 0 ${L}"', "xacro that was not processed: run `xacro`"),
        ("</robot>", '<xacro:arm xmlns:xacro="http://ros.org/wiki/xacro"/></robot>', "xacro that was not processed"),
        ('xyz="0 0 0.4"', 'xyz="0 0 400"', "'j3' is 400 m from the joint before it: is the model in millimetres?"),
        ('xyz="0 0 0.4"', 'xyz="0 0 nan"', "'j3': <origin xyz=\"0 0 nan\"> must be three finite numbers"),
        ('xyz="0 0 0.4"', 'xyz="0 0,4"', "'j3': <origin xyz=\"0 0,4\"> must be three finite numbers"),
        ('<axis xyz="0 1 0"/>', '<axis xyz="0 0 0"/>', "'j2' has the axis 0 0 0"),
        ('type="fixed"', 'type="weld"', "'flange' is of type 'weld'; there are: revolute"),
        ('<child link="l3"/>', '<child link="l33"/>', "'j3' has the child link 'l33', which is not defined"),
        ('<joint name="j3"', '<joint name="j2"', "2 joints are called 'j2'"),
        ('<link name="l3"/>', '<link name="l3"/><link name="l3"/>', "2 links are called 'l3'"),
        ('<link name="l3"/>', '<link name="l3"/><link name="stand"/>', "'base_link', 'stand' have no parent"),
        ('<child link="l3"/>', '<child link="l2"/>', "link 'l2' is the child of 2 joints"),
    ],
)
def test_a_faulty_urdf_is_refused_with_the_reason(old: str, new: str, sentence: str) -> None:
    changed = PLAIN.replace(old, new, 1)
    assert changed != PLAIN
    with pytest.raises(KinematicsError, match=re.escape(sentence)):
        arm(changed)


def test_slides_have_limits_in_metres() -> None:
    slide = PLAIN.replace('name="j3" type="revolute"', 'name="j3" type="prismatic"')
    assert arm(with_limit("j3", limit(0, 0.4), slide)).upper[2] == 0.4
    with pytest.raises(
        KinematicsError, match=re.escape("'j3' has the position limits 0 to 400 m: are they millimetres")
    ):
        arm(with_limit("j3", limit(0, 400), slide))


@pytest.mark.parametrize(
    ("base", "tool"),
    [("arm_a/base_link", "arm_a/tool0"), ("/base_link", "/tool0"), ("cell/arm_a/base_link", "tool0")],
)
def test_frames_of_tf_may_have_a_prefix_that_links_have_not(base: str, tool: str) -> None:
    np.testing.assert_array_equal(arm(base=base, tool=tool).forward(POSTURE), arm().forward(POSTURE))


def test_a_link_that_has_the_prefix_itself_is_found() -> None:
    prefixed = PLAIN.replace('"tool0"', '"arm_a/tool0"')
    np.testing.assert_array_equal(arm(prefixed, tool="arm_a/tool0").forward(POSTURE), arm().forward(POSTURE))


def test_a_joint_that_mimics_one_of_the_arm_is_where_it_is() -> None:
    for q in np.random.default_rng(0).uniform(-1, 1, (10, 6)):
        np.testing.assert_allclose(arm(MIMIC).forward(q), true_mimic_pose(q), atol=1e-12)


def test_inverse_kinematics_takes_the_mimicking_joint_along() -> None:
    kinematics, each = arm(MIMIC), np.ones(6)
    limits = JointLimits(kinematics.lower, kinematics.upper, 2 * each, 5 * each, 100 * each)
    targets = np.stack([true_mimic_pose(POSTURE + 0.02 * step) for step in range(1, 6)])
    solution = kinematics.inverse(targets, POSTURE, limits, 0.2)
    reached = np.stack([true_mimic_pose(q) for q in solution.q])
    np.testing.assert_allclose(reached, targets, atol=2e-3)


def test_an_offset_a_multiplier_and_a_gripper_that_mimics_are_taken_as_written() -> None:
    gripper = (
        '<link name="a"/><link name="b"/>'
        '<joint name="a" type="prismatic"><parent link="tool0"/><child link="a"/><axis xyz="1 0 0"/>'
        '<limit lower="0" upper="0.04" effort="1" velocity="1"/></joint>'
        '<joint name="b" type="prismatic"><parent link="tool0"/><child link="b"/><axis xyz="-1 0 0"/>'
        '<limit lower="0" upper="0.04" effort="1" velocity="1"/><mimic joint="a"/></joint></robot>'
    )
    text = MIMIC.replace('multiplier="-1"', 'multiplier="0.5" offset="0.1"').replace("</robot>", gripper)
    free = arm(re.sub(r"<mimic [^>]*/>", "", text), joints=(*JOINTS, "keep"))
    expected = free.forward(np.append(POSTURE, 0.5 * POSTURE[1] + 0.1))
    np.testing.assert_allclose(arm(text).forward(POSTURE), expected, atol=1e-12)


@pytest.mark.parametrize("endless", ["j2", "keep", "j2 keep"])
def test_leader_and_follower_may_turn_without_end(endless: str) -> None:
    text = MIMIC.replace('multiplier="-1"', 'multiplier="-1" offset="0.3"')
    for name in endless.split():
        text = text.replace(f'name="{name}" type="revolute"', f'name="{name}" type="continuous"')
    free = arm(re.sub(r"<mimic [^>]*/>", "", text), joints=(*JOINTS, "keep"))
    q = POSTURE + (0, 4.0 if "j2" in endless else 0, 0, 0, 0, 0)  # more than half a turn
    np.testing.assert_allclose(arm(text).forward(q), free.forward(np.append(q, 0.3 - q[1])), atol=1e-12)


def test_a_part_of_endless_turns_is_refused() -> None:
    text = MIMIC.replace('name="j2" type="revolute"', 'name="j2" type="continuous"').replace('"-1"/>', '"0.5"/>')
    with pytest.raises(KinematicsError, match=re.escape("'keep' turns 0.5 times as far as 'j2', which turns without")):
        arm(text)


def test_a_leader_that_comes_after_its_follower_is_refused() -> None:
    with pytest.raises(
        KinematicsError, match=re.escape("'keep' mimics another joint in a way that cannot be computed")
    ):
        arm(MIMIC.replace('<mimic joint="j2"', '<mimic joint="j5"'))


def test_the_leader_keeps_the_limits_of_the_joint_that_follows_it() -> None:
    narrow = with_limit("keep", limit(-0.5, 1.0, 0.5), MIMIC).replace('multiplier="-1"', 'multiplier="-2" offset="0.2"')
    kinematics = arm(narrow)
    assert (kinematics.lower[1], kinematics.upper[1]) == pytest.approx((-0.4, 0.35))
    assert kinematics.velocity[1] == 0.25


@pytest.mark.parametrize(
    ("mimic", "joints", "sentence"),
    [
        ('<mimic joint="j2" multiplier="-1"/>', (*JOINTS, "keep"), "'keep' mimics 'j2' and cannot be commanded"),
        ('<mimic joint="j2" multiplier="-1"/>', ("j1", *JOINTS[2:]), "'j2', which is not one of command.joints"),
        ('<mimic joint="j22"/>', JOINTS, "'keep' mimics 'j22', which is not a joint that moves"),
        ('<mimic joint="keep"/>', JOINTS, "'keep' mimics 'keep', which mimics 'keep'"),
        ('<mimic joint="j2" multiplier="x"/>', JOINTS, "'keep': <mimic multiplier=\"x\"> must be"),
    ],
)
def test_a_mimicking_joint_that_cannot_be_followed_is_refused(
    mimic: str, joints: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(KinematicsError, match=re.escape(sentence)):
        arm(re.sub(r"<mimic [^>]*/>", mimic, MIMIC), joints=joints)
