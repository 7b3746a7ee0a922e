"""The state that a policy is told, from transforms and joint states with known answers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from assembled_scenes import MS, T0, stamp

from sqap_vla_ros.config.cameras import StateConvention
from sqap_vla_ros.config.robot import Configuration, Frames
from sqap_vla_ros.core.policy import StateKind
from sqap_vla_ros.perception.robot_state import RobotState, StateError, axis_angle
from sqap_vla_ros.perception.transform_tree import TransformError, TransformTree
from sqap_vla_ros.perception.transforms import rotation_from_rpy, transform_from

FRAMES = Frames(base="base", tool="tool")
FINGERS = ("left", "right")


def state(kind: StateKind = "tool", **convention: Any) -> RobotState:
    convention = {"joints": FINGERS} | convention
    return RobotState(Configuration(frames=FRAMES, state=StateConvention(**convention)), kind)


def measure(made: RobotState, at_ns: int, **positions: float) -> None:
    header = SimpleNamespace(stamp=stamp(at_ns))
    made.add(SimpleNamespace(header=header, name=list(positions), position=list(positions.values())))


def measured(made: RobotState) -> RobotState:
    measure(made, T0, left=0.04, right=0.03)
    return made


def tool(rpy: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    return transform_from((0.4, 0.1, 0.3), rotation_from_rpy(rpy))


def test_a_tool_state_is_position_rotation_vector_and_joints() -> None:
    told = measured(state()).at(T0, tool((0, 0, 0.5)), TransformTree())
    np.testing.assert_allclose(told, [0.4, 0.1, 0.3, 0, 0, 0.5, 0.04, 0.03], atol=1e-12)


def test_a_joint_state_is_the_joints_in_the_order_of_the_file() -> None:
    told = measured(state("joints", joints=("right", "left"))).at(T0, tool(), TransformTree())
    np.testing.assert_array_equal(told, [0.03, 0.04])


def test_a_policy_without_a_state_is_told_none() -> None:
    assert state("none").at(T0, tool(), TransformTree()) is None


def test_joints_are_moved_and_scaled_as_the_file_says() -> None:
    told = measured(state("joints", factors=(1.0, -1.0), offsets=(0.01, 0.0))).at(T0, tool(), TransformTree())
    np.testing.assert_allclose(told, [0.05, -0.03])


def test_the_point_and_the_axes_are_those_of_the_file() -> None:
    made = measured(state(xyz=(0, 0, 0.1), rpy=(0, 0, 0.2)))
    told = made.at(T0, tool((0, np.pi / 2, 0)), TransformTree())
    assert told is not None
    np.testing.assert_allclose(told[:3], [0.5, 0.1, 0.3], atol=1e-12)
    upright = made.at(T0, tool(), TransformTree())
    assert upright is not None
    np.testing.assert_allclose(upright[3:6], [0, 0, 0.2], atol=1e-12)


def test_the_pose_is_expressed_in_the_frame_of_the_file() -> None:
    tree = TransformTree(max_gap_s=1.0)
    tree.add("world", "base", 0, transform_from((0, 0, 0.9), np.eye(3)), static=True)
    told = measured(state(frame="world")).at(T0, tool(), tree)
    assert told is not None
    np.testing.assert_allclose(told[:3], [0.4, 0.1, 1.2])


def test_a_frame_that_nobody_publishes_is_an_error() -> None:
    with pytest.raises(TransformError, match="world"):
        measured(state(frame="world")).at(T0, tool(), TransformTree())


@pytest.mark.parametrize("roll", [np.pi - 0.02, np.pi, np.pi + 0.02])
def test_near_a_downward_gripper_the_rotation_vector_does_not_flip(roll: float) -> None:
    told = measured(state(near_rpy=(np.pi, 0, 0))).at(T0, tool((roll, 0, 0)), TransformTree())
    assert told is not None
    np.testing.assert_allclose(told[3:6], [roll, 0, 0], atol=1e-6)


def test_without_a_near_rotation_the_vector_is_the_shorter_one() -> None:
    told = measured(state()).at(T0, tool((np.pi + 0.02, 0, 0)), TransformTree())
    assert told is not None
    np.testing.assert_allclose(told[3:6], [0.02 - np.pi, 0, 0], atol=1e-6)


def test_rotation_vectors_keep_the_sign_of_the_quaternion() -> None:
    half = np.array([np.sin(0.25), 0, 0, np.cos(0.25)])
    np.testing.assert_allclose(axis_angle(half), [0.5, 0, 0])
    np.testing.assert_allclose(axis_angle(-half), [0.5 - 2 * np.pi, 0, 0])
    np.testing.assert_array_equal(axis_angle(np.array([0, 0, 0, 1.0])), np.zeros(3))


def test_joints_are_interpolated_at_the_images_stamp_and_may_come_in_parts() -> None:
    made = state("joints")
    measure(made, T0 - 10 * MS, left=0.0)
    measure(made, T0 - 5 * MS, right=1.0)
    measure(made, T0 + 10 * MS, left=0.04)
    measure(made, T0 + 5 * MS, right=2.0)
    np.testing.assert_allclose(made.at(T0, tool(), TransformTree()), [0.02, 1.5])
    assert made.is_waiting(T0, TransformTree()) == ""
    assert made.is_waiting(T0 + 7 * MS, TransformTree()) == "joints right"


def test_a_joint_that_is_not_measured_is_named() -> None:
    made = state("joints")
    measure(made, T0, left=0.0, right=np.nan)
    with pytest.raises(StateError, match="no position of state joint right"):
        made.at(T0, tool(), TransformTree())
    assert "right" in made.unmeasured(T0)


def test_a_joint_that_was_measured_long_ago_is_named() -> None:
    made = measured(state("joints"))
    assert made.unmeasured(T0 + 100 * MS) == "" and "0.300 s old" in made.unmeasured(T0 + 300 * MS)
    with pytest.raises(StateError, match="state joint left .* is 0.300 s away"):
        made.at(T0 + 300 * MS, tool(), TransformTree())


def test_a_clock_that_was_set_back_starts_the_measurements_anew() -> None:
    made = measured(state("joints"))
    measure(made, T0 - 10 * MS, left=9.0)  # out of order
    np.testing.assert_array_equal(made.at(T0, tool(), TransformTree()), [0.04, 0.03])
    measure(made, T0 - 10_000 * MS, left=0.01, right=0.02)
    np.testing.assert_array_equal(made.at(T0 - 10_000 * MS, tool(), TransformTree()), [0.01, 0.02])
