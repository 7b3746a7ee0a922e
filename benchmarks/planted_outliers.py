"""What rotation is worth in closed loop: `python -m benchmarks.planted_outliers`. It resumes where it stopped.

The shipped model gets synthetic activation outliers, which make its inputs as hard to round to 4 bits as those of a 7 B
model; see `sqap_vla_ros.testing.synthetic_outliers`.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import tyro
from rich.console import Console
from safetensors.torch import load_file, save_file

from benchmarks.closed_loop import SHIPPED
from benchmarks.results import EPISODES, command_line, write_results
from sqap_vla_ros.simulation.tasks import chosen_tasks
from sqap_vla_ros.testing.synthetic_outliers import FACTOR, SHARE, with_outliers
from sqap_vla_ros.tools.evaluation.cached_episodes import cached_episodes
from sqap_vla_ros.tools.evaluation.comparison import success_figures
from sqap_vla_ros.tools.evaluation.run import Evaluation, trained_tasks
from sqap_vla_ros.tools.evaluation.session import run_evaluation
from sqap_vla_ros.tools.evaluation.variants import Variant

ROWS = {
    "fp16": Variant("fp16"),
    "rtn_w4a4": Variant("dense", "rtn-w4a4"),
    "rotated_w4a4": Variant("dense", "rotated-w4a4"),
    "smoothquant_w4a4": Variant("dense", "smoothquant-w4a4"),
    "paper_w4a4": Variant("dense", "qk-rotation"),
    "residual_w4a4": Variant("dense", "w4a4-residual"),
    "online_w4a4": Variant("dense", "w4a4-online"),
}


def main(
    checkpoint: tyro.conf.Positional[Path] = Path(SHIPPED),
    tasks: tuple[str, ...] = (),
    episodes: int = 10,
    calibration: tuple[str, ...] = (),
    workers: int = 2,
    out: Path = Path("out/planted_outliers"),
) -> None:
    """Add outliers, compress, play, and write `results/planted_outliers.json`.

    Args:
        checkpoint: CogACT run directory of the trained small model.
        tasks: Names of tasks; empty: those that the checkpoint was trained on.
        episodes: Episodes per task and row.
        calibration: What compression looks at, as in `sqap-vla compress`.
        workers: Episodes at a time.
        out: Directory for the changed checkpoint, episodes and compressed checkpoints; kept for the next time.
    """
    changed = out / "checkpoint"
    [weights] = sorted((checkpoint / "checkpoints").glob("*.safetensors"))
    (changed / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "dataset_statistics.json", "tokenizer.json"):
        shutil.copy(checkpoint / name, changed / name)
    save_file(with_outliers(load_file(weights)), changed / "checkpoints" / weights.name)
    evaluation = Evaluation(
        checkpoint=str(changed),
        out=out,
        tasks=chosen_tasks(tasks or trained_tasks(str(checkpoint))),
        variants=tuple(ROWS.values()),
        episodes=episodes,
        calibration=calibration,
        workers=workers,
    )
    with cached_episodes(EPISODES / "planted_outliers", out):
        played = {row.policy: row for row in run_evaluation(evaluation, Console(), command_line())}
    rows = [replace(played[str(variant)], policy=name) for name, variant in ROWS.items()]
    figures: dict[str, float] = {}
    for row in rows:
        figures |= success_figures(row.policy, row)
    write_results(
        "planted_outliers",
        figures,
        factor=FACTOR,
        share=SHARE,
        episodes_per_task=episodes,
        task_names=[task.name for task in evaluation.tasks],
    )


if __name__ == "__main__":
    tyro.cli(main)
