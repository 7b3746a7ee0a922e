"""Bags of the arms in `bench_arm`: joint states at 100 Hz, images at 10 Hz, a camera that looks down at the arm."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_arm import JOINTS, PLAIN, POSTURE
from synthetic_bags import START_NS, STORE, Entry, camera_info, image, write_messages

from sqap_vla_ros.bags.messages import transforms_message

T = STORE.types
SETTINGS = {
    "frames.base": "base_link",
    "frames.tool": "tool0",
    "command.joints": JOINTS,
    "limits.workspace_min": (-2.0, -2.0, -2.0),
    "limits.workspace_max": (2.0, 2.0, 2.0),
}
Pose = Callable[[np.ndarray], np.ndarray]


def posture(at_ns: int) -> np.ndarray:
    """Every joint turns by 0.1 rad/s."""
    return POSTURE + 0.1 * (at_ns - START_NS) * 1e-9


def joint_states(at_ns: int, names: tuple[str, ...], positions: np.ndarray) -> object:
    header = T["std_msgs/msg/Header"](
        stamp=T["builtin_interfaces/msg/Time"](sec=at_ns // 10**9, nanosec=at_ns % 10**9), frame_id=""
    )
    none = np.empty(0)
    return T["sensor_msgs/msg/JointState"](
        header=header, name=list(names), position=np.asarray(positions, np.float64), velocity=none, effort=none
    )


def arm_entries(
    urdf: str = PLAIN, tool_pose: Pose | None = None, seconds: float = 1.0, prefix: str = "", camera_parent: str = ""
) -> list[Entry]:
    """What was recorded.

    Args:
        urdf: The description; empty: none was recorded.
        tool_pose: T_base_tool as TF has it; None: there are no transforms of the arm.
        seconds: Duration.
        prefix: Before the frames of TF.
        camera_parent: Frame that the camera is fixed to; empty: it stands in the cell.
    """
    T_base_camera = np.diag([1.0, -1.0, -1.0, 1.0])
    T_base_camera[:3, 3] = 0.5, 0.0, 2.5
    parent = camera_parent or f"{prefix}base_link"
    entries: list[Entry] = [
        (START_NS, "/tf_static", transforms_message([(parent, "camera", T_base_camera)], START_NS)),
        (START_NS, "/camera/color/camera_info", camera_info(START_NS)),
        (START_NS, "/sqap_vla/instruction", T["std_msgs/msg/String"](data="close the drawer")),
    ]
    if urdf:
        entries.append((START_NS, "/robot_description", T["std_msgs/msg/String"](data=urdf)))
    for step in range(round(seconds * 100) + 1):
        at_ns = START_NS + step * 10**7
        q = posture(at_ns)
        entries.append((at_ns, "/joint_states", joint_states(at_ns, JOINTS, q)))
        entries.append((at_ns + 1, "/joint_states", joint_states(at_ns, ("finger",), np.array([0.02]))))
        if tool_pose is not None:
            tool = (f"{prefix}base_link", f"{prefix}tool0", tool_pose(q))
            entries.append((at_ns + 2, "/tf", transforms_message([tool], at_ns)))
        if step % 10 == 5:
            entries.append((at_ns - 1_000_000, "/camera/color/image_raw", image(at_ns - 3_000_000)))
    return sorted(entries, key=lambda entry: entry[0])


def arm_bag(path: Path, **arguments: object) -> Path:
    """A bag of `arm_entries`."""
    return write_messages(path, arm_entries(**arguments))  # type: ignore[arg-type]
