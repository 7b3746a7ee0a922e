"""A tiny checkpoint and settings that evaluate it."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from sqap_vla_ros.bags.demonstrations import Demonstration
from sqap_vla_ros.simulation.tasks import chosen_tasks
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.tools.evaluation.run import Evaluation
from sqap_vla_ros.tools.evaluation.variants import Variant


def write_demonstration(path: Path) -> None:
    """An arm that stands still for three frames of noise."""
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    Demonstration(
        task="pick_can",
        instruction="pick up the can",
        seed=0,
        rate_hz=20.0,
        images=tuple(cv2.imencode(".jpg", image)[1].tobytes() for image in images),
        frame_steps=np.arange(3),
        T_base_tool=np.tile(np.eye(4, dtype=np.float32), (4, 1, 1)),
        gripper=np.ones(4, np.float32),
        intended=np.ones(3, np.bool_),
        points_px=np.zeros((3, 3, 2), np.float32),
        points_m=np.zeros((3, 3, 3), np.float32),
        phase=np.zeros(3, np.int64),
    ).write(path)


def small_evaluation(folder: Path) -> Evaluation:
    """Two policies, one of them quantised to the nearest, on one task that is cut short."""
    checkpoint = write_random_checkpoint(folder / "tiny", "tiny")
    recipe = folder / "nearest.yaml"
    recipe.write_text("name: nearest\nweights: {bits: 8, rounding: nearest}\nactivations: {bits: 8}\n")
    write_demonstration(folder / "demonstrations" / "pick_can" / "000000.safetensors")
    return Evaluation(
        checkpoint=str(checkpoint),
        out=folder / "out",
        tasks=tuple(replace(task, limit_s=1.0) for task in chosen_tasks(["pick_can"])),
        variants=(Variant("fp16"), Variant("sqap", str(recipe))),
        calibration=(str(folder / "demonstrations"),),
        calibration_frames=2,
        episodes=4,
        workers=1,
    )
