"""Demonstrations on disk: one file per episode, poses and commands at the control rate, some of the camera's frames."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save_file

from sqap_vla_ros.core.files import whole_file

POINTS = ("tool", "object", "goal")
PHASES = ("reach", "grasp", "carry", "release")
_ARRAYS = ("frame_steps", "T_base_tool", "gripper", "intended", "points_px", "points_m", "phase")


class DemonstrationError(ValueError):
    """A file that is not a complete demonstration; the message names it."""


@dataclass(frozen=True)
class Demonstration:
    """One successful episode.

    Attributes:
        task: Short name of the task.
        instruction: Instruction of the task.
        seed: Seed of the episode.
        rate_hz: States per second.
        images: JPEG files, 224x224, RGB, one per frame.
        frame_steps: int64 (frames,), index of the state that each frame shows.
        T_base_tool: float32 (steps + 1, 4, 4), measured tool poses [m].
        gripper: float32 (steps + 1,), the gripper's command in effect at each state; 1 open, 0 closed.
        intended: bool (steps,), whether the motion from state k to k + 1 is to be imitated; others are disturbances.
        points_px: float32 (frames, 3, 2), pixels (u, v) of `POINTS`; NaN outside the image.
        points_m: float32 (frames, 3, 3), the same points in the base frame [m].
        phase: int64 (frames,), index into `PHASES`.
    """

    task: str
    instruction: str
    seed: int
    rate_hz: float
    images: tuple[bytes, ...]
    frame_steps: NDArray[np.int64]
    T_base_tool: NDArray[np.float32]
    gripper: NDArray[np.float32]
    intended: NDArray[np.bool_]
    points_px: NDArray[np.float32]
    points_m: NDArray[np.float32]
    phase: NDArray[np.int64]

    def write(self, path: Path) -> None:
        """Write a safetensors file, completely or not at all."""
        arrays: dict[str, NDArray[np.generic]] = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        arrays["frames"] = np.frombuffer(b"".join(self.images), np.uint8)
        arrays["frame_ends"] = np.cumsum([len(image) for image in self.images])
        metadata = {
            "task": self.task,
            "instruction": self.instruction,
            "seed": str(self.seed),
            "rate_hz": str(self.rate_hz),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            save_file(arrays, part, metadata)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            DemonstrationError: It is not a complete demonstration.
        """
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in (*_ARRAYS, "frames", "frame_ends")}
            stream = io.BytesIO(arrays.pop("frames").tobytes())
            images = tuple(stream.read(int(size)) for size in np.diff(arrays.pop("frame_ends"), prepend=0))
            return cls(
                task=metadata["task"],
                instruction=metadata["instruction"],
                seed=int(metadata["seed"]),
                rate_hz=float(metadata["rate_hz"]),
                images=images,
                **arrays,
            )
        except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
            raise DemonstrationError(
                f"{path}: not a whole demonstration ({error}); remove it, and record it again"
            ) from None


def find_demonstrations(directory: Path) -> dict[str, tuple[Path, ...]]:
    """Find the files of a folder of demonstrations by task, in the order of their seeds.

    Raises:
        DemonstrationError: There are none.
    """
    found = {
        folder.name: tuple(sorted(folder.glob("*.safetensors")))
        for folder in sorted(directory.glob("*"))
        if folder.is_dir()
    }
    found = {task: files for task, files in found.items() if files}
    if not found:
        raise DemonstrationError(f"{directory}: no demonstrations; record some with `sqap-vla demonstrate {directory}`")
    return found
