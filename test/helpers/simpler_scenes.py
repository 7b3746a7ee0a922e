"""A stand-in for SIMPLER's environments: their interface (gymnasium's, SAPIEN's poses and cameras), and no physics."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

HEIGHT, WIDTH, FOCAL_PX = 128, 160, 100.0
CAMERA = "overhead_camera"


class SapienPose(NamedTuple):
    """Position, and quaternion as w, x, y, z."""

    p: tuple[float, float, float]
    q: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)


@dataclass
class Link:
    """A part of the robot."""

    pose: SapienPose


def observation(image_seed: int = 0, base: SapienPose | None = None) -> dict[str, Any]:
    """What the camera at the world's origin sees, looking along z, and its parameters."""
    base = base or SapienPose((0.0, 0.0, 0.0))
    image = np.random.default_rng(image_seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    K = np.array([[FOCAL_PX, 0, WIDTH / 2], [0, FOCAL_PX, HEIGHT / 2], [0, 0, 1]], np.float32)
    return {
        "agent": {"base_pose": np.array([*base.p, *base.q])},
        "image": {CAMERA: {"rgb": image}},
        "camera_param": {CAMERA: {"extrinsic_cv": np.eye(4, dtype=np.float32), "intrinsic_cv": K}},
    }


@dataclass
class Scene(gymnasium.Env[Any, Any]):
    """Counts its steps; what it says about success, and when it gives the next instruction, was told before."""

    done_at: frozenset[int] = frozenset()
    instructions: tuple[str, str] = ("open top drawer", "open top drawer")
    second_from: int = 1000
    tool: SapienPose = SapienPose((0.0, 0.0, 1.0))
    steps: int = 0
    closed: bool = False
    actions: list[NDArray[np.float64]] = field(default_factory=list)
    reset_options: dict[str, Any] = field(default_factory=dict)

    @property
    def tcp(self) -> Link:
        return Link(self.tool)

    def get_language_instruction(self) -> str:
        return self.instructions[self.steps >= self.second_from]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.steps, self.reset_options = 0, options or {}
        return observation(0), {}

    def step(self, action: NDArray[np.float64]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.actions.append(action)
        return observation(self.steps), 0.0, self.steps in self.done_at, False, {}

    def close(self) -> None:
        self.closed = True


def limited(scene: Scene, max_steps: int) -> gymnasium.Env[Any, Any]:
    """As `gymnasium.make` gives it."""
    return TimeLimit(scene, max_steps)
