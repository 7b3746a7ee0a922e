"""Bags whose right replay is known by construction: a still camera, a tool on a straight line."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types
WIDTH, HEIGHT, FOCAL_PX = 160, 120, 128.0
START_NS = 1_700_000_000_000_000_000
CAMERA_DISTANCE_M = 1.0
TOOL_SPEED_M_S = 0.1


def _time(at_ns: int) -> object:
    return T["builtin_interfaces/msg/Time"](sec=at_ns // 10**9, nanosec=at_ns % 10**9)


def _header(at_ns: int, frame: str) -> object:
    return T["std_msgs/msg/Header"](stamp=_time(at_ns), frame_id=frame)


def transforms(at_ns: int, parent: str, child: str, xyz: tuple[float, float, float]) -> object:
    """A TFMessage with one unrotated transform."""
    x, y, z = xyz
    transform = T["geometry_msgs/msg/Transform"](
        translation=T["geometry_msgs/msg/Vector3"](x=x, y=y, z=z),
        rotation=T["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
    )
    stamped = T["geometry_msgs/msg/TransformStamped"](
        header=_header(at_ns, parent), child_frame_id=child, transform=transform
    )
    return T["tf2_msgs/msg/TFMessage"](transforms=[stamped])


def camera_info(at_ns: int) -> object:
    """A pinhole camera with its principal point in the middle."""
    k = np.array([FOCAL_PX, 0, WIDTH / 2, 0, FOCAL_PX, HEIGHT / 2, 0, 0, 1])
    return T["sensor_msgs/msg/CameraInfo"](
        header=_header(at_ns, "camera"),
        height=HEIGHT,
        width=WIDTH,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=T["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def image(at_ns: int, encoding: str = "rgb8") -> object:
    """An image whose brightness tells its time."""
    level = (at_ns // 10**7) % 256
    return T["sensor_msgs/msg/Image"](
        header=_header(at_ns, "camera"),
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        is_bigendian=0,
        step=WIDTH * 3,
        data=np.full(HEIGHT * WIDTH * 3, level, np.uint8),
    )


def tool_x_m(at_ns: int) -> float:
    """Where the tool is, to the right of the camera's axis."""
    return TOOL_SPEED_M_S * (at_ns - START_NS) * 1e-9


Entry = tuple[int, str, object]
"""Recording time in nanoseconds, topic, message."""


def messages(seconds: float = 1.0, image_encoding: str = "rgb8", instruction: str = "pick up the can") -> list[Entry]:
    """10 images and 100 transforms a second; the camera's frame is the base frame shifted back."""
    entries: list[Entry] = [
        (START_NS, "/tf_static", transforms(START_NS, "base", "camera", (0.0, 0.0, -CAMERA_DISTANCE_M))),
        (START_NS, "/camera/color/camera_info", camera_info(START_NS)),
    ]
    if instruction:
        entries.append((START_NS, "/sqap_vla/instruction", T["std_msgs/msg/String"](data=instruction)))
    for step in range(round(seconds * 100) + 1):
        at_ns = START_NS + step * 10**7
        entries.append((at_ns, "/tf", transforms(at_ns, "base", "tool", (tool_x_m(at_ns), 0.0, 0.0))))
        if step % 10 == 5:
            stamp_ns = at_ns - 3_000_000  # between two transforms, and arriving before the later one
            entries.append((at_ns - 1_000_000, "/camera/color/image_raw", image(stamp_ns, image_encoding)))
    return sorted(entries, key=lambda entry: entry[0])


def write_messages(
    path: Path,
    entries: Iterable[Entry],
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
    version: Literal[8, 9] = 9,
    qos: Sequence[Qos] = (),
) -> Path:
    """Write messages in the order given."""
    writer = Writer(path, version=version, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Connection] = {}
        for at_ns, topic, message in entries:
            kind = message.__msgtype__  # type: ignore[attr-defined]
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE, offered_qos_profiles=qos)
            writer.write(connections[topic], at_ns, STORE.serialize_cdr(message, kind))
    return path


def write_bag(
    path: Path,
    storage: StoragePlugin = StoragePlugin.MCAP,
    seconds: float = 1.0,
    image_encoding: str = "rgb8",
    instruction: str = "pick up the can",
) -> Path:
    """The bag of `messages`."""
    return write_messages(path, messages(seconds, image_encoding, instruction), storage)
