"""ROS messages without ROS: what a replay writes into a bag, with the definitions that are stored in it.

The node publishes the same messages; it makes them with the classes of rclpy, this module with those of rosbags.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import isqrt, nan
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from sqap_vla_ros.config.files import config_directory
from sqap_vla_ros.perception.transforms import quaternion_from_matrix
from sqap_vla_ros.reporting.overlay import Colour

_JPEG_QUALITY = 85
_LINE_WIDTH_M = 0.004
_LINE_STRIP, _ADD, _DELETE = 4, 0, 2  # visualization_msgs/Marker


@cache
def message_types() -> Typestore:
    """The message definitions of ROS 2 Jazzy and of this package."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    # In a checkout and in an installed package alike, the definitions are next to the settings.
    for file in sorted((config_directory().parent / "msg").glob("*.msg")):
        definition = file.read_text(encoding="utf-8")
        typestore.register(get_types_from_msg(definition, f"sqap_vla/msg/{file.stem}"))
    return typestore


def _make(kind: str, **fields: Any) -> Any:
    return message_types().types[kind](**fields)


def header(stamp_ns: int, frame: str) -> Any:
    """Make a std_msgs Header."""
    stamp = _make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def _point(xyz: NDArray[np.float64]) -> Any:
    x, y, z = (float(value) for value in xyz)
    return _make("geometry_msgs/msg/Point", x=x, y=y, z=z)


def _pose(T: NDArray[np.float64]) -> Any:
    x, y, z, w = quaternion_from_matrix(T)
    orientation = _make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
    return _make("geometry_msgs/msg/Pose", position=_point(T[:3, 3]), orientation=orientation)


def static_transform_message(parent: str, child: str, T_parent_child: NDArray[np.float64], stamp_ns: int) -> Any:
    """Make a tf2_msgs TFMessage with one transform."""
    return transforms_message([(parent, child, T_parent_child)], stamp_ns)


def transforms_message(transforms: Iterable[tuple[str, str, NDArray[np.float64]]], stamp_ns: int) -> Any:
    """Make a tf2_msgs TFMessage of (parent, child, T_parent_child float64 (4, 4))."""
    return _make(
        "tf2_msgs/msg/TFMessage", transforms=[_stamped_transform(*transform, stamp_ns) for transform in transforms]
    )


def _stamped_transform(parent: str, child: str, T_parent_child: NDArray[np.float64], stamp_ns: int) -> Any:
    x, y, z = (float(value) for value in T_parent_child[:3, 3])
    transform = _make(
        "geometry_msgs/msg/Transform",
        translation=_make("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
        rotation=_pose(T_parent_child).orientation,
    )
    return _make(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp_ns, parent),
        child_frame_id=child,
        transform=transform,
    )


def chunk_message(
    row: Mapping[str, Any], base_frame: str, policy_id: str, epoch: int, sequence: int, inference_s: float
) -> Any:
    """Make a sqap_vla ActionChunk from a planned row of `ticks.parquet`."""
    actions = np.array(row["actions"], np.float64)
    return _make(
        "sqap_vla/msg/ActionChunk",
        header=header(row["stamp_ns"], base_frame),
        epoch=epoch,
        sequence=sequence,
        action_space=0,  # ACTION_SPACE_TOOL_DELTA
        time_step=row["time_step_s"],
        horizon=len(actions) // 7,
        data=actions,
        tool_pose=_pose(np.reshape(row["T_base_tool"], (4, 4))),
        instruction=row["instruction"],
        seed=row["seed"],
        committed_steps=0,
        policy_id=policy_id,
        inference_time=inference_s,
    )


def token_grid(row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Reasons why each visual token was kept, uint8 (rows, columns); the model's image is a square of patches."""
    reasons = np.array(row["token_reasons"], np.uint8)
    return reasons.reshape(isqrt(len(reasons)), -1)


def token_mask_message(row: Mapping[str, Any], camera_frame: str) -> Any:
    """Make a sqap_vla TokenMask from a planned row of `ticks.parquet`."""
    grid = token_grid(row)
    seen = row["tool_u_px"] is not None
    return _make(
        "sqap_vla/msg/TokenMask",
        header=header(row["stamp_ns"], camera_frame),
        rows=grid.shape[0],
        columns=grid.shape[1],
        reason=grid.ravel(),
        tool_valid=seen,
        tool_u=row["tool_u_px"] if seen else nan,
        tool_v=row["tool_v_px"] if seen else nan,
        tool_reason=row["no_ring_reason"],
    )


def jpeg_message(picture: NDArray[np.uint8], stamp_ns: int, frame: str) -> Any:
    """Make a sensor_msgs CompressedImage of a picture, uint8 (height, width, 3), RGB."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[
        1
    ]
    return _make(
        "sensor_msgs/msg/CompressedImage",
        header=header(stamp_ns, frame),
        format="rgb8; jpeg compressed bgr8",
        data=encoded.ravel(),
    )


def image_message(picture: NDArray[np.uint8], stamp_ns: int, frame: str) -> Any:
    """Make a sensor_msgs Image of a picture, uint8 (height, width, 3), RGB."""
    height, width = picture.shape[:2]
    return _make(
        "sensor_msgs/msg/Image",
        header=header(stamp_ns, frame),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(picture).reshape(-1),
    )


def picture_message(file: bytes, stamp_ns: int, frame: str) -> Any:
    """Make a sensor_msgs CompressedImage of a PNG or JPEG file."""
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg"
    return _make(
        "sensor_msgs/msg/CompressedImage",
        header=header(stamp_ns, frame),
        format=kind,
        data=np.frombuffer(file, np.uint8),
    )


def camera_info_message(calibration: Mapping[str, Any], stamp_ns: int, frame: str) -> Any:
    """Make a sensor_msgs CameraInfo of width, height, distortion_model, D and K, for the image as delivered."""
    return _make(
        "sensor_msgs/msg/CameraInfo",
        header=header(stamp_ns, frame),
        height=int(calibration["height"]),
        width=int(calibration["width"]),
        distortion_model=str(calibration["distortion_model"]),
        d=np.array(calibration["D"], np.float64),
        k=np.array(calibration["K"], np.float64),
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=_make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def joint_state_message(names: Sequence[str], positions: NDArray[np.floating[Any]], stamp_ns: int) -> Any:
    """Make a sensor_msgs JointState."""
    empty = np.empty(0)
    return _make(
        "sensor_msgs/msg/JointState",
        header=header(stamp_ns, ""),
        name=list(names),
        position=positions.astype(np.float64),
        velocity=empty,
        effort=empty,
    )


def text_message(text: str) -> Any:
    """Make a std_msgs String."""
    return _make("std_msgs/msg/String", data=text)


def path_marker(name: str, points_m: NDArray[np.float64] | None, colour: Colour, stamp_ns: int, frame: str) -> Any:
    """Make a visualization_msgs Marker that is a line; without points it deletes the line of that name.

    Args:
        name: Namespace of the marker.
        points_m: float64 (N, 3), in `frame`; NaN rows are left out.
        colour: RGB.
        stamp_ns: Stamp of the plan.
        frame: Frame of the points.
    """
    visible = points_m[np.isfinite(points_m).all(axis=1)] if points_m is not None else np.empty((0, 3))
    red, green, blue = (value / 255 for value in colour)
    empty = np.empty(0, np.uint8)
    return _make(
        "visualization_msgs/msg/Marker",
        header=header(stamp_ns, frame),
        ns=name,
        id=0,
        type=_LINE_STRIP,
        action=_ADD if len(visible) > 1 else _DELETE,
        pose=_pose(np.eye(4)),
        scale=_make("geometry_msgs/msg/Vector3", x=_LINE_WIDTH_M, y=0.0, z=0.0),
        color=_make("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=1.0),
        lifetime=_make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
        frame_locked=False,
        points=[_point(point) for point in visible] if len(visible) > 1 else [],
        colors=[],
        texture_resource="",
        texture=_make("sensor_msgs/msg/CompressedImage", header=header(0, ""), format="", data=empty),
        uv_coordinates=[],
        text="",
        mesh_resource="",
        mesh_file=_make("visualization_msgs/msg/MeshFile", filename="", data=empty),
        mesh_use_embedded_materials=False,
    )


def marker_array(markers: list[Any]) -> Any:
    """Make a visualization_msgs MarkerArray."""
    return _make("visualization_msgs/msg/MarkerArray", markers=markers)
