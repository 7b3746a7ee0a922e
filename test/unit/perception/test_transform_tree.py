"""The transform tree against closed forms, and what it refuses."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqap_vla_ros.perception import transform_tree
from sqap_vla_ros.perception.transform_tree import (
    DisconnectedFramesError,
    ExtrapolationError,
    GapError,
    InvalidTransformError,
    TransformError,
    TransformTree,
    UnknownFrameError,
)
from sqap_vla_ros.perception.transforms import quaternion_from_matrix, rotation_from_vector, transform_from

S = 10**9
number = st.floats(-1, 1)
vectors = st.tuples(number, number, number).map(np.array)
transforms = st.builds(lambda v, r: transform_from(v, rotation_from_vector(r)), vectors, vectors)


def at(x):
    return transform_from((x, 0, 0), np.eye(3))


def tree_of(*samples, parent="base", child="tool", **settings):
    """A tree with one edge, whose x coordinate equals the stamp in seconds."""
    tree = TransformTree(**settings)
    for seconds in samples:
        tree.add(parent, child, round(seconds * S), at(seconds))
    return tree


def stamped(parent, child, stamp_ns, T):
    x, y, z, w = quaternion_from_matrix(T)
    tx, ty, tz = (float(value) for value in T[:3, 3])
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=parent, stamp=SimpleNamespace(sec=stamp_ns // S, nanosec=stamp_ns % S)),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=tx, y=ty, z=tz), rotation=SimpleNamespace(x=x, y=y, z=z, w=w)
        ),
    )


@given(vectors, vectors, vectors, st.integers(0, S))
def test_a_motion_at_constant_velocity_is_followed_exactly(start, velocity, spin, stamp_ns):
    def pose(seconds):
        return transform_from(start + velocity * seconds, rotation_from_vector(spin * seconds))

    tree = TransformTree()
    for k in range(11):
        tree.add("base", "tool", k * S // 10, pose(k / 10))
    np.testing.assert_allclose(tree.lookup("base", "tool", stamp_ns), pose(stamp_ns / S), atol=1e-9)


@given(st.lists(transforms, min_size=6, max_size=6))
def test_branches_are_chained_through_their_common_frame(edges):
    root_a, a_b, b_tool, root_c, c_camera, root_d = edges
    tree = TransformTree()
    for parent, child, T, static in (
        ("root", "a", root_a, False),
        ("a", "b", a_b, True),
        ("b", "tool", b_tool, False),
        ("root", "c", root_c, True),
        ("c", "camera", c_camera, False),
        ("root", "d", root_d, False),
    ):
        tree.add(parent, child, S, T, static)
    expected = np.linalg.inv(root_c @ c_camera) @ root_a @ a_b @ b_tool
    np.testing.assert_allclose(tree.lookup("camera", "tool", S), expected, atol=1e-12)


@given(transforms, transforms, st.integers(0, S // 10))
def test_the_way_back_is_the_inverse(first, second, stamp_ns):
    tree = TransformTree()
    tree.add("base", "tool", 0, first)
    tree.add("base", "tool", S // 10, second)
    there, back = tree.lookup("base", "tool", stamp_ns), tree.lookup("tool", "base", stamp_ns)
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)


def test_a_frame_lies_at_its_own_origin():
    np.testing.assert_array_equal(tree_of(1).lookup("tool", "tool", 99 * S), np.eye(4))


@given(st.permutations([1.0, 1.1, 1.2, 1.3]), st.floats(1, 1.3))
def test_the_order_of_arrival_does_not_matter(order, seconds):
    T = tree_of(*order).lookup("base", "tool", int(seconds * S))
    assert T[0, 3] == pytest.approx(seconds, abs=1e-8)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(0, 20))
def test_brackets_says_whether_a_lookup_would_extrapolate(stamps, stamp):
    tree = tree_of(*stamps, cache_s=100, max_gap_s=100)
    if tree.brackets("base", "tool", stamp * S):
        tree.lookup("base", "tool", stamp * S)
    else:
        with pytest.raises(ExtrapolationError):
            tree.lookup("base", "tool", stamp * S)


def test_a_static_transform_holds_at_all_times():
    tree = TransformTree()
    tree.add("base", "camera", 5 * S, at(1), static=True)
    assert tree.lookup("base", "camera", 0)[0, 3] == tree.lookup("base", "camera", 99 * S)[0, 3] == 1
    assert tree.brackets("base", "camera", 0)


def test_a_newer_static_transform_replaces_the_older():
    tree = TransformTree()
    tree.add("base", "camera", 0, at(1), static=True)
    tree.add("base", "camera", 0, at(2), static=True)
    assert tree.lookup("base", "camera", 0)[0, 3] == 2


@pytest.mark.parametrize("seconds", [0.9, 1.2])
def test_extrapolation_is_refused_with_frames_and_times(seconds):
    with pytest.raises(ExtrapolationError) as error:
        tree_of(1.0, 1.1).lookup("base", "tool", round(seconds * S))
    for part in ("'base' -> 'tool'", f"{seconds:.6f} s", "from 1.000000 s to 1.100000 s"):
        assert part in str(error.value)


def test_a_gap_is_refused_with_frames_and_times():
    with pytest.raises(GapError) as error:
        tree_of(1.0, 1.5, max_gap_s=0.2).lookup("base", "tool", round(1.25 * S))
    for part in ("'base' -> 'tool'", "at 1.250000 s", "at 1.000000 s and 1.500000 s", "0.2 s"):
        assert part in str(error.value)


def test_a_gap_does_not_matter_at_a_stamp_that_is_there():
    assert tree_of(1.0, 9.0, max_gap_s=0.2).lookup("base", "tool", S)[0, 3] == 1


def test_an_unknown_frame_is_refused_with_those_that_are_known():
    with pytest.raises(UnknownFrameError, match="'gripper' is unknown; there are: base, tool"):
        tree_of(1).lookup("base", "gripper", S)


def test_an_unknown_frame_does_not_lie_at_its_own_origin():
    with pytest.raises(UnknownFrameError, match="'gripper'"):
        tree_of(1).lookup("gripper", "gripper", S)


def test_disconnected_frames_are_refused_with_their_roots():
    tree = tree_of(1)
    tree.add("table", "camera", S, at(0), static=True)
    with pytest.raises(DisconnectedFramesError, match="'tool' hangs below 'base', 'camera' below 'table'"):
        tree.lookup("tool", "camera", S)


@pytest.mark.parametrize("target, source", [("base", "gripper"), ("gripper", "gripper"), ("tool", "camera")])
def test_what_cannot_be_looked_up_is_not_bracketed(target, source):
    tree = tree_of(1)
    tree.add("table", "camera", S, at(0), static=True)
    assert not tree.brackets(target, source, S)


def test_leading_slashes_do_not_matter():
    tree = tree_of(1, parent="/base", child="/tool")
    assert tree.lookup("base", "/tool", S)[0, 3] == 1


def test_a_transform_with_the_same_stamp_replaces_the_first():
    tree = tree_of(1.0, 1.1)
    tree.add("base", "tool", S, at(7))
    assert tree.lookup("base", "tool", S)[0, 3] == 7


def test_a_child_that_comes_with_another_parent_moves_there():
    tree = tree_of(1.0, 1.1)
    tree.add("gripper", "tool", round(1.1 * S), at(5))
    with pytest.raises(TransformError):
        tree.lookup("base", "tool", round(1.1 * S))
    assert tree.lookup("gripper", "tool", round(1.1 * S))[0, 3] == 5


def test_a_loop_is_refused():
    tree = tree_of(1)
    tree.add("tool", "finger", S, at(0))
    with pytest.raises(InvalidTransformError, match="'finger' -> 'base'.*loop"):
        tree.add("finger", "base", S, at(0))


def test_a_frame_below_itself_is_refused():
    with pytest.raises(InvalidTransformError, match="loop"):
        TransformTree().add("base", "base", S, at(0))


@pytest.mark.parametrize("bad", [math.nan * np.eye(4), 2 * np.eye(4), np.diag((1, 1, -1, 1.0)), at(math.inf)])
def test_what_is_not_a_finite_rigid_transform_is_refused(bad):
    with pytest.raises(InvalidTransformError, match="'base' -> 'tool'"):
        TransformTree().add("base", "tool", S, bad)


def test_a_frame_without_a_name_is_refused():
    with pytest.raises(InvalidTransformError, match="need a name"):
        TransformTree().add("base", "/", S, at(0))


def test_old_transforms_are_forgotten():
    tree = tree_of(*range(1, 31), cache_s=10, max_gap_s=2)
    assert tree.lookup("base", "tool", 20 * S)[0, 3] == 20
    with pytest.raises(ExtrapolationError):
        tree.lookup("base", "tool", 19 * S)


def test_a_transform_older_than_the_cache_is_dropped():
    tree = tree_of(100, 1, cache_s=10)
    with pytest.raises(ExtrapolationError):
        tree.lookup("base", "tool", S)


def test_one_stamp_from_the_future_pushes_nothing_out():
    tree = tree_of(1, 2, 103, 3, 104, 4, cache_s=10, max_gap_s=2)
    assert tree.lookup("base", "tool", 3 * S)[0, 3] == 3
    assert tree.latest_ns("base", "tool") == 4 * S


def test_two_stamps_from_the_future_are_a_jump_of_the_clock():
    tree = tree_of(1, 2, 103, 104, 105, cache_s=10, max_gap_s=2)
    assert tree.lookup("base", "tool", 104 * S)[0, 3] == 104
    assert not tree.brackets("base", "tool", 2 * S)


def test_memory_is_bounded_however_dense_the_stamps(monkeypatch):
    monkeypatch.setattr(transform_tree, "MAX_SAMPLES", 10)
    tree = TransformTree()
    for stamp_ns in range(100):
        tree.add("base", "tool", stamp_ns, at(0))
    assert tree.brackets("base", "tool", 90)
    assert not tree.brackets("base", "tool", 89)


def test_clearing_forgets_all_but_static_transforms():
    tree = tree_of(100)
    tree.add("base", "camera", S, at(1), static=True)
    tree.clear()
    assert tree.brackets("base", "camera", S)
    assert not tree.brackets("base", "tool", 100 * S)


def test_after_clearing_an_earlier_time_can_begin():
    tree = tree_of(100)
    tree.clear()
    tree.add("base", "tool", S, at(3))
    assert tree.lookup("base", "tool", S)[0, 3] == 3


def test_the_latest_time_is_that_of_the_slowest_dynamic_edge():
    tree = tree_of(1, 2)
    tree.add("tool", "finger", S, at(0))
    tree.add("base", "camera", 0, at(0), static=True)
    assert tree.latest_ns("camera", "finger") == S
    assert tree.latest_ns("base", "camera") is None
    assert tree.latest_ns("base", "gripper") is None


def test_a_message_is_taken():
    tree = TransformTree()
    T = transform_from((1, 2, 3), rotation_from_vector((0.1, 0.2, 0.3)))
    assert tree.add_message(SimpleNamespace(transforms=[stamped("base", "tool", S + 5, T)])) == ()
    np.testing.assert_allclose(tree.lookup("base", "tool", S + 5), T, atol=1e-12)


def test_a_bad_transform_in_a_message_is_refused_and_the_others_are_taken():
    bad, good = stamped("base", "tool", S, at(0)), stamped("base", "camera", S, at(1))
    bad.transform.rotation.w = 0.0
    refused = TransformTree().add_message(SimpleNamespace(transforms=[bad]))
    assert len(refused) == 1 and "'base' -> 'tool' at 1.000000 s" in refused[0]
    tree = TransformTree()
    tree.add_message(SimpleNamespace(transforms=[bad, good]))
    assert tree.brackets("base", "camera", S)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_message_that_is_not_finite_is_refused(value):
    bad = stamped("base", "tool", S, at(0))
    bad.transform.translation.y = value
    tree = TransformTree()
    assert len(tree.add_message(SimpleNamespace(transforms=[bad]))) == 1
    assert not tree.brackets("base", "tool", S)


def test_a_frame_that_is_known_with_a_prefix_is_named():
    tree = TransformTree()
    tree.add("arm_a/base_link", "arm_a/tool0", 0, np.eye(4), static=True)
    with pytest.raises(UnknownFrameError, match="is it 'arm_a/base_link', with robot_state_publisher's frame_prefix?"):
        tree.lookup("base_link", "tool0", 0)
