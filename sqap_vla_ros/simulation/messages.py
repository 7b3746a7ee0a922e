"""ROS messages from the simulated scene."""

from array import array
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from sqap_vla_ros.perception.transforms import quaternion_from_matrix
from sqap_vla_ros.ros.conversions import time_message


def transform_message(T_parent_child: NDArray[np.float64], parent: str, child: str, at_ns: int) -> TransformStamped:
    """A transform message with the pose of `child` in `parent`, float64 (4, 4), metres."""
    x, y, z = (float(value) for value in T_parent_child[:3, 3])
    qx, qy, qz, qw = quaternion_from_matrix(T_parent_child)
    return TransformStamped(
        header=Header(stamp=time_message(at_ns), frame_id=parent),
        child_frame_id=child,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)),
    )


def image_message(image: NDArray[np.uint8], frame: str, at_ns: int) -> Image:
    """An rgb8 image from uint8 (height, width, 3)."""
    height, width, channels = image.shape
    return Image(
        header=Header(stamp=time_message(at_ns), frame_id=frame),
        height=height,
        width=width,
        encoding="rgb8",
        step=width * channels,
        data=array("B", image.tobytes()),  # an array is taken without a copy; lists and bytes are walked byte by byte
    )


def camera_info_message(
    camera_matrix: NDArray[np.float64], width: int, height: int, frame: str, at_ns: int
) -> CameraInfo:
    """An undistorted pinhole camera, intrinsics float64 (3, 3) in px."""
    return CameraInfo(
        header=Header(stamp=time_message(at_ns), frame_id=frame),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=camera_matrix.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([camera_matrix, np.zeros((3, 1))]).ravel(),
    )


def joint_state_message(
    names: Sequence[str], positions: Sequence[float], velocities: Sequence[float], at_ns: int
) -> JointState:
    """A joint state message with positions (rad or m) and velocities (rad/s or m/s)."""
    return JointState(
        header=Header(stamp=time_message(at_ns)),
        name=list(names),
        position=array("d", positions),
        velocity=array("d", velocities),
    )
