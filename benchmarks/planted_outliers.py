"""What rotation is worth in closed loop: `python -m benchmarks.planted_outliers`. Goes on where it stopped.

A model as small as the one that ships has not the outlier channels of a 7 B one. Here they are planted, by rescaling
that leaves what the network computes as it was: a few channels of each linear layer's input become large, and the
weights that read them small by as much. Float actions stay the same; what changes is how hard the inputs are to round
to 4 bits.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.closed_loop import SHIPPED, success_figures
from benchmarks.kept_episodes import kept_episodes
from benchmarks.results import RESULTS, command_line, write_results
from sqap_vla_ros.simulation.tasks import chosen_tasks
from sqap_vla_ros.tools.evaluation.plots import Bar, plot_success
from sqap_vla_ros.tools.evaluation.run import Evaluation, trained_tasks
from sqap_vla_ros.tools.evaluation.session import run_evaluation
from sqap_vla_ros.tools.evaluation.variants import Variant

FACTOR, SHARE = 30.0, 1 / 32  # how much larger channels become, and which share of each input
ROWS = {
    "fp16": Variant("fp16"),
    "rtn_w4a4": Variant("dense", "rtn-w4a4"),
    "rotated_w4a4": Variant("dense", "rotated-w4a4"),
    "smoothquant_w4a4": Variant("dense", "smoothquant-w4a4"),
    "paper_w4a4": Variant("dense", "sqap-w4a4-paper"),
    "residual_w4a4": Variant("dense", "sqap-w4a4"),
    "online_w4a4": Variant("dense", "sqap-w4a4-online"),
}
_LAYERS = "llm_backbone.llm.model.layers."


def plant(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same network with outlier channels in the inputs of every linear layer of the language model.

    Args:
        tensors: A checkpoint's, named as published with the part in front.

    Returns:
        New tensors, float32 where changed: 16 bits would round the rescaled weights anew.
    """
    planted = dict(tensors)
    generator = torch.Generator().manual_seed(0)

    def scale(name: str, channels: Tensor, by: float, axis: int) -> None:
        tensor = planted[name].float().clone()
        tensor.index_copy_(axis, channels, tensor.index_select(axis, channels) * by)
        planted[name] = tensor

    depth = len({name.removeprefix(_LAYERS).split(".")[0] for name in tensors if name.startswith(_LAYERS)})
    for layer in (f"{_LAYERS}{index}." for index in range(depth)):
        # Channel c is written by the rows (of a norm: the gains) on the left, and read by the columns on the right.
        for writer, readers in (
            ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("self_attn.v_proj", ("self_attn.o_proj",)),
            ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
            ("mlp.up_proj", ("mlp.down_proj",)),
        ):
            width = planted[f"{layer}{writer}.weight"].shape[0]
            channels = torch.randperm(width, generator=generator)[: max(1, round(SHARE * width))]
            scale(f"{layer}{writer}.weight", channels, FACTOR, 0)
            for reader in readers:
                scale(f"{layer}{reader}.weight", channels, 1 / FACTOR, 1)
    return planted


def main(
    checkpoint: tyro.conf.Positional[Path] = Path(SHIPPED),
    tasks: tuple[str, ...] = (),
    episodes: int = 10,
    calibration: tuple[str, ...] = (),
    workers: int = 2,
    out: Path = Path("out/planted_outliers"),
) -> None:
    """Plant, compress, play, and write `results/planted_outliers.json`.

    Args:
        checkpoint: CogACT run directory of the trained small model.
        tasks: Names of tasks; empty: those that the checkpoint was trained on.
        episodes: Per task and row.
        calibration: What compression looks at, as in `sqap-vla compress`.
        workers: Episodes at a time.
        out: Directory for the changed checkpoint, episodes and compressed checkpoints; kept for the next time.
    """
    changed = out / "checkpoint"
    [weights] = sorted((checkpoint / "checkpoints").glob("*.safetensors"))
    (changed / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "dataset_statistics.json", "tokenizer.json"):
        shutil.copy(checkpoint / name, changed / name)
    save_file(plant(load_file(weights)), changed / "checkpoints" / weights.name)
    evaluation = Evaluation(
        checkpoint=str(changed),
        out=out,
        tasks=chosen_tasks(tasks or trained_tasks(str(checkpoint))),
        variants=tuple(ROWS.values()),
        episodes=episodes,
        calibration=calibration,
        workers=workers,
    )
    with kept_episodes("planted_outliers", out):
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
    plot_success([Bar.of(row) for row in rows], RESULTS.parents[1] / "docs" / "planted_outliers.png")


if __name__ == "__main__":
    tyro.cli(main)
