"""The transform tree against tf2 itself, where ROS has it (the wheels have not)."""

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped

from sqap_vla_ros.perception.transform_tree import TransformTree
from sqap_vla_ros.perception.transforms import quaternion_from_matrix, rotation_from_vector, transform_from
from sqap_vla_ros.perception.transforms import transform_from_message as from_message

tf2_py = pytest.importorskip("tf2_py", reason="tf2 comes with a ROS workstation only")


def test_lookups_agree_with_tf2():
    from rclpy.duration import Duration
    from rclpy.time import Time

    generator = np.random.default_rng(0)
    buffer, tree = tf2_py.BufferCore(Duration(seconds=10)), TransformTree()
    for parent, child in (("root", "a"), ("a", "tool"), ("root", "camera")):
        for k in range(11):
            T = transform_from(generator.normal(size=3), rotation_from_vector(generator.normal(size=3)))
            message = TransformStamped(child_frame_id=child)
            message.header.frame_id = parent
            message.header.stamp = Time(nanoseconds=10**9 + k * 10**8).to_msg()
            place, turn = message.transform.translation, message.transform.rotation
            place.x, place.y, place.z = T[:3, 3].tolist()
            turn.x, turn.y, turn.z, turn.w = quaternion_from_matrix(T)
            buffer.set_transform(message, "test")
            tree.add(parent, child, 10**9 + k * 10**8, T)
    for stamp_ns in generator.integers(10**9, 2 * 10**9, 50).tolist():
        expected = buffer.lookup_transform_core("camera", "tool", Time(nanoseconds=stamp_ns))
        np.testing.assert_allclose(tree.lookup("camera", "tool", stamp_ns), from_message(expected.transform), atol=1e-9)
