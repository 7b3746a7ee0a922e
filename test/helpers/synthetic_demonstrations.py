"""Demonstrations of a tool that moves straight to a bright square, made without a simulator."""

from pathlib import Path

import cv2
import numpy as np

from sqap_vla_ros.bags.demonstrations import Demonstration

STEPS = 24
FRAME_EVERY = 4


def synthetic_demonstration(task: str, seed: int) -> Demonstration:
    """An episode at 20 Hz: the tool, a red dot, goes to the square, a green one; the gripper closes half-way.

    Steps 10 and 11 are a disturbance. One pixel is two millimetres; the square is somewhere else for each seed.
    """
    rng = np.random.default_rng(seed)
    square_px = rng.uniform(60, 160, 2)
    tool_px = np.linspace((112, 30), square_px, STEPS + 1)
    T_base_tool = np.tile(np.eye(4, dtype=np.float32), (STEPS + 1, 1, 1))
    T_base_tool[:, :2, 3] = tool_px * 0.002
    steps = np.arange(0, STEPS + 1, FRAME_EVERY)
    goal_px = np.full(2, np.nan)
    points_px = np.array([[tool_px[k], square_px, goal_px] for k in steps])
    points_m = np.concatenate((points_px * 0.002, np.zeros((len(steps), 3, 1))), axis=2)
    intended = np.ones(STEPS, dtype=bool)
    intended[10:12] = False
    return Demonstration(
        task=task,
        instruction=f"{task.replace('_', ' ')} the square",
        seed=seed,
        rate_hz=20.0,
        images=tuple(_picture(tool_px[k], square_px) for k in steps),
        frame_steps=steps,
        T_base_tool=T_base_tool,
        gripper=(np.arange(STEPS + 1) < STEPS // 2).astype(np.float32),
        intended=intended,
        points_px=points_px.astype(np.float32),
        points_m=points_m.astype(np.float32),
        phase=(steps >= STEPS // 2).astype(np.int64),
    )


def write_demonstrations(directory: Path, tasks: tuple[str, ...], episodes: int) -> Path:
    """A folder of demonstrations of some tasks."""
    for number, task in enumerate(tasks):
        for seed in range(episodes):
            synthetic_demonstration(task, 1000 * number + seed).write(directory / task / f"{seed:06d}.safetensors")
    return directory


def _picture(tool_px: np.ndarray, square_px: np.ndarray) -> bytes:
    picture = np.full((224, 224, 3), 90, dtype=np.uint8)
    u, v = square_px.astype(int)
    cv2.rectangle(picture, (int(u) - 10, int(v) - 10), (int(u) + 10, int(v) + 10), (60, 220, 60), -1)
    cv2.circle(picture, tuple(int(value) for value in tool_px), 8, (60, 60, 230), -1)
    return cv2.imencode(".jpg", picture)[1].tobytes()
