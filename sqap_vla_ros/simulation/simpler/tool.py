"""The tool's place in the image of a SIMPLER environment, which has no transform tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.perception.camera import CameraModel
from sqap_vla_ros.perception.transforms import inverse, rotation_from_quaternion, transform_from


class Pose(Protocol):
    """SAPIEN's pose."""

    @property
    def p(self) -> Sequence[float]:
        """Position (3,) [m]."""

    @property
    def q(self) -> Sequence[float]:
        """Quaternion (4,), in the order w, x, y, z."""


@dataclass(frozen=True)
class ToolInImage:
    """The tool's pose, and its place in the image.

    Attributes:
        T_base_tool: float64 (4, 4), tool pose in the robot's base frame, metres; NaN when it is not known.
        tool_px: float64 (2,), pixel (u, v) of the tool, pixel centres at whole numbers; None off the image.
        no_ring_reason: Why `tool_px` is None; empty when it is not.
    """

    T_base_tool: NDArray[np.float64]
    tool_px: NDArray[np.float64] | None = None
    no_ring_reason: str = ""


def tool_in_image(observation: Mapping[str, Any], tool: Pose, camera: str) -> ToolInImage:
    """Project the tool into the image that belongs to the same observation.

    Args:
        observation: The observation of an environment in mode "rgbd", with the image and parameters of the camera
            (`extrinsic_cv`, T_camera_world with z forward, and `intrinsic_cv`) and the pose of the robot's base.
        tool: T_world_tool: `environment.unwrapped.tcp.pose`. Only some environments have it in their observations.
        camera: Name of the camera.
    """
    base = observation["agent"]["base_pose"]
    T_world_base = _transform(base[:3], base[3:])
    T_world_tool = _transform(tool.p, tool.q)
    T_base_tool = inverse(T_world_base) @ T_world_tool

    parameters = observation["camera_param"][camera]
    height, width = observation["image"][camera]["rgb"].shape[:2]
    K = np.array(parameters["intrinsic_cv"], np.float64)
    # The renderer counts from the image's edge, where pixel 0 begins; here the centre of pixel 0 is 0.
    K[:2, 2] -= 0.5
    model = CameraModel(width, height, K, "", np.zeros(0))
    point_camera = np.asarray(parameters["extrinsic_cv"], np.float64)[:3] @ T_world_tool[:, 3]
    pixels, valid = model.project(point_camera[None])
    if not valid[0]:
        x, y, z = point_camera
        return ToolInImage(T_base_tool, None, f"the tool is behind the camera, at ({x:.3f}, {y:.3f}, {z:.3f}) m")
    if not model.contains(pixels[0]):
        u, v = pixels[0]
        reason = f"the tool is off the image, at pixel ({u:.0f}, {v:.0f}) of {width}x{height}"
        return ToolInImage(T_base_tool, None, reason)
    return ToolInImage(T_base_tool, pixels[0])


def _transform(position: Sequence[float], quaternion: Sequence[float]) -> NDArray[np.float64]:
    w, x, y, z = (float(value) for value in quaternion)
    return transform_from(np.asarray(position, np.float64), rotation_from_quaternion((x, y, z, w)))
