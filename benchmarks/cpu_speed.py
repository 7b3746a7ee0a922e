"""How fast each policy plans on this CPU, at CogACT-Base's full widths: `python -m benchmarks.cpu_speed`.

All policies run in one process and in turn, round after round, so that a busy machine slows all of them; the figures
are ratios of medians. Two decoder layers of full width stand for all 32: each is far larger than the processor's
caches, so running the same two sixteen times costs what 32 different ones cost. The reference is bfloat16 on this
project's own forward pass (one prefill, no key-value cache, no `lm_head`, the last layer for the last token alone).
"""

import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from benchmarks.full_size import write_full_size
from benchmarks.results import RESULTS, write_results
from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.pruning import EfficientVlaConfig
from sqap_vla_ros.config.recipe import read_recipe
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import PolicyMetadata
from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.compressed import load_compressed
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.policy import CogACTPolicy
from sqap_vla_ros.policies.cogact.published import LANGUAGE, published_shapes
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.tools.benchmark.cost import Product, language_tokens, plan_products, product_percent, width_percent
from sqap_vla_ros.tools.benchmark.rows import FORMATS
from sqap_vla_ros.tools.compression.compress import compress
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.pruning.sqap import select_tokens
from sqap_vla_ros.vlm.statistics import ActionStatistics, choose_statistics
from sqap_vla_ros.vlm.tokenizer import PromptTokenizer, load_tokenizer

LAYERS = 2
TEXT_TOKENS = 24
RECIPES = ("w4a4-residual", "qk-rotation", "w4a4-online")
# Name in the figures -> policy file, and recipe of the weights (None: bfloat16).
POLICIES: dict[str, tuple[str, str | None]] = {
    "fp16": ("fp16", None),
    "random": ("random", None),
    "fastv": ("fastv", None),
    "vla_cache": ("vla_cache", None),
    "efficientvla": ("efficientvla", None),
    "pruning": ("sqap", None),
    "w4a4": ("dense", "w4a4-residual"),
    "sqap": ("sqap", "w4a4-residual"),
    "sqap_paper": ("sqap", "qk-rotation"),
    "sqap_online": ("sqap", "w4a4-online"),
}


def main(work: Path = Path("out/cpu_speed"), rounds: int = 7, threads: int = 2, out: Path = RESULTS) -> None:
    """Measure and write `cpu_speed.json`.

    Example: python -m benchmarks.cpu_speed --rounds 1 --out out/benchmarks

    Args:
        work: Directory for the random checkpoint and its compressions; kept for the next time.
        rounds: Plans of each policy that count; one more before them does not.
        threads: Threads of torch.
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    console = Console()
    torch.set_num_threads(threads)
    source = open_checkpoint(write_full_size(work / "float", LAYERS))
    models: dict[str | None, CogACT] = {None: _full_depth(load_cogact(source, dtype=torch.bfloat16))}
    for name in RECIPES:
        directory = work / name
        if not (directory / "compressed.json").is_file():
            console.print(f"compressing as {name}")
            compress(source, read_recipe(name), directory, on_note=console.print)
        models[name] = _full_depth(load_compressed(directory, read_manifest(directory), dtype=torch.bfloat16))
    tokenizer = load_tokenizer(source.directory)
    statistics = choose_statistics(source.statistics, None)
    policies = {name: _policy(file, models[recipe], tokenizer, statistics) for name, (file, recipe) in POLICIES.items()}
    frames = _frames(rounds + 1)
    instruction = _instruction_of(tokenizer, TEXT_TOKENS)

    seconds: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in policies}
    for number in track(range(rounds + 1), "planning", console=console):
        for name, policy in policies.items():
            started = time.perf_counter()
            chunk = policy.plan(_observation(frames[number], instruction, number))
            total = time.perf_counter() - started
            if number:
                for stage, value in {**chunk.timings_s, "total": total}.items():
                    seconds[name][stage].append(value)
    medians = {
        name: {stage: float(np.median(values)) for stage, values in stages.items()} for name, stages in seconds.items()
    }
    figures = _figures(medians) | {"selection_ms": _selection_ms()} | _bit_operations()
    write_results("cpu_speed", figures, out, medians_s=medians, rounds=rounds, threads=threads)
    console.print(_table(medians, figures))


def _full_depth(model: CogACT) -> CogACT:
    layers = list(model.language.layers)
    model.language.layers = nn.ModuleList(layers[index % len(layers)] for index in range(LANGUAGE.depth))
    model.language.shape = LANGUAGE
    return model


def _policy(file: str, model: CogACT, tokenizer: PromptTokenizer, statistics: ActionStatistics) -> CogACTPolicy:
    config = read_policy(file)
    if isinstance(config.pruning, EfficientVlaConfig):
        # Which layers go does not change the time.
        dropped = range(16, 16 + round(config.pruning.layer_ratio * LANGUAGE.depth))
        model = CogACT(model.vision, model.projector, model.language.without_layers(dropped), model.action_head)
    metadata = PolicyMetadata(
        policy=config.name,
        checkpoint="random-cogact-base",
        checkpoint_sha256="",
        statistics_key=statistics.key,
        weights="random",
        weight_bits=0,
        activation_bits=0,
        visual_tokens=256,
        kept_tokens=256,
        parameters=0,
        memory_bytes=0,
        device="cpu",
        time_step_s=0.05,
        horizon=16,
    )
    return CogACTPolicy(config, model, tokenizer, statistics, metadata)


def _frames(count: int) -> list[NDArray[np.uint8]]:
    """A still scene in which a quarter of the image, an arm say, moves: what VLA-Cache can reuse depends on it."""
    generator = np.random.default_rng(0)
    scene = generator.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    frames = []
    for number in range(count):
        frame = scene.copy()
        frame[120:360, 160:480] = np.roll(scene, 29 * number, axis=1)[120:360, 160:480]
        frames.append(frame)
    return frames


def _instruction_of(tokenizer: PromptTokenizer, tokens: int) -> str:
    """An instruction that makes this many text tokens, BOS and cognition token included."""
    sentence = "open the middle drawer of the cabinet and put the bowl inside the drawer and close it"
    for end in range(1, len(sentence) + 1):
        if tokenizer.encode(sentence[:end]).shape[1] == tokens:
            return sentence[:end]
    raise ValueError(f"no beginning of the sentence gives {tokens} tokens")


def _observation(image: NDArray[np.uint8], instruction: str, number: int) -> Observation:
    return Observation(
        stamp_ns=(number + 1) * 50_000_000,
        image=image,
        instruction=instruction,
        T_base_tool=np.eye(4),
        tool_px=(320.0, 240.0),
        no_ring_reason="",
    )


def _selection_ms() -> float:
    """SQAP's choice of 154 tokens from scores and ring."""
    generator = np.random.default_rng(0)
    ring = np.array([row * 16 + column for row in range(6, 11) for column in range(6, 11)])
    times = []
    for _ in range(200):
        scores = generator.random(256, np.float32)
        started = time.perf_counter()
        select_tokens(scores, ring, 154, 31)
        times.append(time.perf_counter() - started)
    return 1e3 * float(np.median(times))


def _figures(medians: dict[str, dict[str, float]]) -> dict[str, float]:
    def speedup(name: str, stage: str) -> float:
        return medians["fp16"][stage] / medians[name][stage]

    figures = {f"llm_speedup_{name}": speedup(name, "language") for name in medians if name != "fp16"}
    return figures | {f"e2e_speedup_{name}": speedup(name, "total") for name in medians if name != "fp16"}


def _bit_operations() -> dict[str, float]:
    def products(name: str) -> list[Product]:
        file, recipe = POLICIES[name]
        config, shapes = read_policy(file), published_shapes()
        tokens = language_tokens(config.pruning, shapes, TEXT_TOKENS)
        return plan_products(shapes, tokens, FORMATS["w4a4" if recipe else "float"], diffusion=config.diffusion)

    reference = products("fp16")
    figures = {}
    for name in POLICIES:
        figures[f"bops_percent_{name}"] = product_percent(products(name), reference)
        figures[f"bops_by_width_percent_{name}"] = width_percent(products(name), reference)
    return figures


def _table(medians: dict[str, dict[str, float]], figures: dict[str, float]) -> Table:
    table = Table(title="milliseconds, medians; speed-ups over fp16 (run in bfloat16)")
    stages = [stage for stage in medians["fp16"] if stage != "total"]
    for heading in ("policy", *stages, "total", "LLM", "end to end", "BOPs b·b", "BOPs b"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for name, times in medians.items():
        table.add_row(
            name,
            *(f"{1e3 * times[stage]:.0f}" for stage in (*stages, "total")),
            f"{figures.get(f'llm_speedup_{name}', 1.0):.2f}×",
            f"{figures.get(f'e2e_speedup_{name}', 1.0):.2f}×",
            f"{figures[f'bops_percent_{name}']:.1f} %",
            f"{figures[f'bops_by_width_percent_{name}']:.1f} %",
        )
    return table


if __name__ == "__main__":
    tyro.cli(main)
