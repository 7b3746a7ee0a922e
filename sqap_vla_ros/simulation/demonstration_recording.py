"""An episode as a demonstration: states, images and labels, as they are recorded step by step."""

import cv2
import numpy as np

from sqap_vla_ros.bags.demonstrations import Demonstration
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transforms import inverse
from sqap_vla_ros.simulation.episode import STEP_NS
from sqap_vla_ros.simulation.experts import Expert
from sqap_vla_ros.simulation.libero import LiberoScene
from sqap_vla_ros.simulation.tasks import Task

_FRAME_EVERY = 3  # control steps
_JPEG_QUALITY = 90


class Recording:
    """The states, images and labels of an episode.

    Args:
        scene: The scene that is recorded.
        expert: Knows the points that are labelled.
    """

    def __init__(self, scene: LiberoScene, expert: Expert) -> None:
        self._scene = scene
        self._expert = expert
        self._T_base_tool: list[Array] = []
        self._gripper: list[float] = [1.0]
        self._intended: list[bool] = []
        self._frame_steps: list[int] = []
        self._images: list[bytes] = []
        self._points_m: list[Array] = []
        self._phases: list[int] = []

    def add(self, T_base_tool: Array, gripper: float, intended: bool, phase: int) -> None:
        """Add a state with what is done there, and the image of every third one.

        Args:
            T_base_tool: float64 (4, 4), the tool's pose [m].
            gripper: The gripper's command, 1 open and 0 closed.
            intended: Whether what is done there is to be imitated.
            phase: Index into `demonstrations.PHASES`.
        """
        step = len(self._T_base_tool)
        self._T_base_tool.append(T_base_tool)
        self._gripper.append(gripper)
        self._intended.append(intended)
        if step % _FRAME_EVERY == 0:
            image = cv2.cvtColor(self._scene.camera.render(), cv2.COLOR_RGB2BGR)
            self._images.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes())
            self._points_m.append(np.array([T_base_tool[:3, 3], *self._expert.points(self._scene)]))
            self._frame_steps.append(step)
            self._phases.append(phase)

    def finish(self, task: Task, seed: int) -> Demonstration:
        """The demonstration, whose last state is the scene's present one."""
        points_m = np.array(self._points_m)
        return Demonstration(
            task=task.name,
            instruction=self._scene.instruction,
            seed=seed,
            rate_hz=1e9 / STEP_NS,
            images=tuple(self._images),
            frame_steps=np.array(self._frame_steps),
            T_base_tool=np.array([*self._T_base_tool, self._scene.T_base_tool], np.float32),
            gripper=np.array(self._gripper, np.float32),
            intended=np.array(self._intended),
            points_px=self._pixels(points_m).astype(np.float32),
            points_m=points_m.astype(np.float32),
            phase=np.array(self._phases),
        )

    def _pixels(self, points_m: Array) -> Array:
        """Pixels (u, v) of points in the base frame, float64 (..., 3); NaN outside the image."""
        T_camera_base = inverse(self._scene.T_base_camera)
        in_image = (points_m @ T_camera_base[:3, :3].T + T_camera_base[:3, 3]) @ self._scene.camera.matrix.T
        pixels = in_image[..., :2] / in_image[..., 2:]
        size = np.array([self._scene.camera.width, self._scene.camera.height])
        inside = ((pixels >= -0.5) & (pixels < size - 0.5)).all(axis=-1, keepdims=True)
        return np.where(inside & (in_image[..., 2:] > 0), pixels, np.nan)
