"""The camera of a simulated scene: its images, and where it is.

Rendering has a thread of its own, which the graphics context stays on: it takes forty times as long as the physics
between two images, and only needs a snapshot of it.
"""

import atexit
import contextlib
import os
import weakref
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.perception.transforms import transform_from

# Read when mujoco is imported: EGL renders in software and needs no display.
os.environ.setdefault("MUJOCO_GL", "egl")

# Rendering in software loads an LLVM of its own. Triton's crashes the process when it comes second; first, both work.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

import mujoco  # noqa: E402

Vector = NDArray[np.float64]

_OPTICAL = np.diag([1.0, -1.0, -1.0])  # MuJoCo's camera looks along -z with y up, an optical frame along +z, y down


class SceneCamera:
    """A camera of a MuJoCo scene.

    Args:
        model: The compiled scene.
        data: Its state.
        name: Name of the camera in the scene.
        width: Image width (px).
        height: Image height (px).

    Attributes:
        width: Image width (px).
        height: Image height (px).

    Raises:
        ValueError: The scene has no such camera.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, name: str, width: int, height: int) -> None:
        names = [model.camera(i).name for i in range(model.ncam)]
        if name not in names:
            raise ValueError(f"no camera '{name}' in this scene; there are: {', '.join(names)}")
        self.width, self.height = width, height
        self._model, self._data = model, data
        self._index = names.index(name)
        self._mounted = model.cam_pos[self._index].copy(), model.cam_quat[self._index].copy()
        # Shadow maps and multisampling are most of the cost of software rendering.
        model.vis.quality.shadowsize = 1024
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(width, model.vis.global_.offwidth)
        model.vis.global_.offheight = max(height, model.vis.global_.offheight)
        self._thread = ThreadPoolExecutor(1, "render")
        self._renderer = self._thread.submit(mujoco.Renderer, model, height, width).result()
        self._scene_option = mujoco.MjvOption()
        self._scene_option.geomgroup[0] = 0  # collision geometry
        # Registered after mujoco's own, so called before it: nothing can be freed once that has ended EGL.
        atexit.register(_close, weakref.ref(self))

    def render(self) -> NDArray[np.uint8]:
        """The image of the present state: uint8 (height, width, 3), RGB, first row on top."""
        return self.start_rendering().result()

    def start_rendering(self) -> Future[NDArray[np.uint8]]:
        """The image of the present state, as `render` gives it, while the simulation continues."""
        self._thread.submit(
            self._renderer.update_scene, self._data, self._index, self._scene_option
        ).result()  # only now may the simulation continue
        return self._thread.submit(self._renderer.render)

    def displace(self, rotation: Vector, translation: Vector) -> None:
        """Move the camera from its mount, as a bumped one, until `put_back`.

        Args:
            rotation: float64 (3,), rotation vector about the axes of its mount (rad).
            translation: float64 (3,), along the same axes (m).
        """
        position, quaternion = self._mounted
        turn, turned = np.zeros(4), np.zeros(4)
        angle = float(np.linalg.norm(rotation))
        mujoco.mju_axisAngle2Quat(turn, rotation / max(angle, 1e-12), angle)
        mujoco.mju_mulQuat(turned, turn, quaternion)
        self._model.cam_pos[self._index], self._model.cam_quat[self._index] = position + translation, turned
        mujoco.mj_camlight(self._model, self._data)

    def put_back(self) -> None:
        """Put the camera back on its mount; poses are updated with the next step."""
        self._model.cam_pos[self._index], self._model.cam_quat[self._index] = self._mounted

    def close(self) -> None:
        """Free the graphics context."""
        try:
            self._thread.submit(self._renderer.close).result()
        except RuntimeError:  # at the interpreter's exit, when threads have ended already
            self._renderer.close()
        self._thread.shutdown()

    @property
    def matrix(self) -> Vector:
        """float64 (3, 3), pinhole intrinsics (px); the image's centre, as pixel centres are at whole numbers."""
        focal_px = 0.5 * self.height / np.tan(0.5 * np.deg2rad(self._model.cam_fovy[self._index]))
        return np.array([[focal_px, 0, (self.width - 1) / 2], [0, focal_px, (self.height - 1) / 2], [0, 0, 1]])

    @property
    def is_fixed(self) -> bool:
        """Whether the camera stands still with respect to the world."""
        return bool(self._model.body_weldid[self._model.cam_bodyid[self._index]] == 0)

    @property
    def T_world_camera(self) -> Vector:
        """float64 (4, 4), the camera's optical frame (z forward, x right, y down) in the world, metres."""
        rotation = self._data.cam_xmat[self._index].reshape(3, 3) @ _OPTICAL
        return transform_from(self._data.cam_xpos[self._index], rotation)


def _close(camera: "weakref.ref[SceneCamera]") -> None:
    if (alive := camera()) is not None:
        alive.close()
