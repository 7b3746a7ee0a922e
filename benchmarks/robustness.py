"""Success against disturbance, float and SQAP-VLA: `python -m benchmarks.robustness`. It resumes where it stopped.

A transform that is off by centimetres moves the protected ring and nothing else in the policy's input; a camera that
has turned or moved since it was calibrated changes image and ring.
"""

from dataclasses import replace
from pathlib import Path

import tyro
from rich.console import Console

from benchmarks.closed_loop import SHIPPED
from benchmarks.results import EPISODES, command_line, write_results
from sqap_vla_ros.simulation.tasks import chosen_tasks
from sqap_vla_ros.tools.evaluation.cached_episodes import cached_episodes
from sqap_vla_ros.tools.evaluation.comparison import COMPARED, ROWS, with_interval
from sqap_vla_ros.tools.evaluation.run import Evaluation, trained_tasks
from sqap_vla_ros.tools.evaluation.session import run_evaluation
from sqap_vla_ros.tools.evaluation.variants import parse_conditions

DISTURBANCES = (
    "tf_offset=0.01,0.02,0.05",
    "camera_rotation=1,2,5",
    "camera_translation=0.01,0.02,0.05",
    "image_noise=5,15,30",
    "drop_frames=0.1,0.3,0.5",
    "delay=0.05,0.1,0.2,0.3",
)


def main(
    checkpoint: tyro.conf.Positional[str] = SHIPPED,
    tasks: tuple[str, ...] = (),
    episodes: int = 10,
    disturbances: tuple[str, ...] = DISTURBANCES,
    calibration: tuple[str, ...] = (),
    frames: int = 128,
    workers: int = 2,
    out: Path = Path("out/closed_loop"),
) -> None:
    """Play and write `results/robustness.json`.

    Args:
        checkpoint: CogACT run directory of the trained small model.
        tasks: Names of tasks; empty: those that the checkpoint was trained on.
        episodes: Episodes per task, policy and disturbance.
        disturbances: NAME=SIZE,SIZE as in `sqap-vla evaluate`.
        calibration: What compression looks at, as in `sqap-vla compress`; the same as in `benchmarks.closed_loop`.
        frames: Number of calibration frames.
        workers: Episodes at a time.
        out: Directory for episodes and compressed checkpoints; `benchmarks.closed_loop` leaves undisturbed ones there.
    """
    evaluation = Evaluation(
        checkpoint=checkpoint,
        out=out,
        tasks=chosen_tasks(tasks or trained_tasks(checkpoint)),
        variants=tuple(ROWS[name] for name in COMPARED),
        conditions=parse_conditions(disturbances),
        episodes=episodes,
        calibration=calibration,
        calibration_frames=frames,
        workers=workers,
    )
    with cached_episodes(EPISODES / "closed_loop", out):
        rows = run_evaluation(evaluation, Console(), command_line())
    named = [replace(row, policy=name) for name in COMPARED for row in rows if row.policy == str(ROWS[name])]
    figures: dict[str, float] = {}
    for row in named:
        ending = f"{row.policy}_{row.disturbance.replace('=', '_') or 'none'}"
        figures[f"success_{ending}"] = 100 * row.mean.value
        if row.disturbance and row.difference is not None:
            figures |= with_interval(f"paired_difference_{ending}", row.difference)
    write_results(
        "robustness", figures, episodes_per_task=episodes, task_names=[task.name for task in evaluation.tasks]
    )


if __name__ == "__main__":
    tyro.cli(main)
