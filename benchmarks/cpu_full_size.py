"""CogACT-Base at its full size on this machine: `python -m benchmarks.cpu_full_size`.

Compresses a random checkpoint of 7.63 billion parameters (15 GB on disk), loads the result and plans with it, each in a
process of its own whose memory is measured: resident is what the process holds after its first plan, peak the most that
it ever held, mapped files included. GPTQ is timed on two decoder layers, which are alike, and extrapolated to all.
"""

import multiprocessing
import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from benchmarks.full_size import write_full_size
from benchmarks.results import RESULTS, write_results
from sqap_vla_ros.policies.cogact.published import LANGUAGE

LAYERS_OF_GPTQ = 2
GIB = 2**30


def main(work: Path = Path("out/cpu_full_size"), frames: int = 32, recipe: str = "w4a4", out: Path = RESULTS) -> None:
    """Measure and write `cpu_full_size.json`.

    Example: python -m benchmarks.cpu_full_size --frames 2 --out out/benchmarks

    Args:
        work: Directory for the checkpoint, which is kept for the next time, and for the compressions.
        frames: Calibration frames of GPTQ.
        recipe: Name of a file in config/recipes.
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    console = Console()
    whole = write_full_size(work / "float")
    short = write_full_size(work / "float_short", LAYERS_OF_GPTQ)

    console.print("compressing all of it, rounding to nearest")
    nearest = _in_a_process(_compress, whole, work / recipe, recipe, 0)
    console.print(nearest)
    console.print("loading it, and planning")
    loaded = _in_a_process(_load_and_plan, work / recipe)
    console.print(loaded)
    console.print(f"compressing {LAYERS_OF_GPTQ} layers with GPTQ on {frames} frames")
    calibrated = _in_a_process(_compress, short, work / f"{recipe}_short", recipe, frames)
    console.print(calibrated)

    layers = [s for name, s in calibrated["seconds"].items() if name.startswith("llm_layer")]
    seconds = nearest["seconds"]
    around = sum(s for name, s in seconds.items() if not name.startswith("llm_layer"))
    gptq_s = around + calibrated["seconds"]["calibration frames"] + LANGUAGE.depth * sum(layers) / len(layers)
    figures = {
        "resident_gib": loaded["resident_gib"],
        "load_peak_gib": loaded["peak_gib"],
        "plan_seconds": loaded["plan_s"],
        "load_seconds": loaded["load_s"],
        "disk_gib_w8_towers": nearest["disk_gib"],
        "disk_gib_float_towers": nearest["disk_gib_float_towers"],
        "disk_share_of_bfloat16": nearest["disk_gib"]
        * GIB
        / sum(file.stat().st_size for file in whole.glob("checkpoints/*")),
        "compress_peak_rss_gib": nearest["peak_gib"],
        "compress_peak_rss_gib_gptq": calibrated["peak_gib"],
        "compress_minutes_rtn": sum(seconds.values()) / 60,
        "compress_minutes_gptq": gptq_s / 60,
    }
    write_results(
        "cpu_full_size",
        figures,
        out,
        recipe=recipe,
        calibration_frames=frames,
        seconds_per_part={"nearest": seconds, "gptq": calibrated["seconds"]},
    )


def _in_a_process(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _compress(source: Path, out: Path, name: str, frames: int) -> dict[str, Any]:
    from sqap_vla_ros.config.recipe import read_recipe
    from sqap_vla_ros.policies.cogact.checkpoint import VISION, read_parts
    from sqap_vla_ros.policies.cogact.store import vision_tensors
    from sqap_vla_ros.tools.compression.calibration import CalibrationFrame, CalibrationFrames
    from sqap_vla_ros.tools.compression.compress import compress
    from sqap_vla_ros.tools.compression.run import Step
    from sqap_vla_ros.vlm.checkpoint import open_checkpoint

    shutil.rmtree(out, ignore_errors=True)
    recipe = read_recipe(name)
    generator = np.random.default_rng(0)
    drawn = tuple(
        CalibrationFrame(generator.integers(0, 256, (224, 224, 3), dtype=np.uint8), "open the middle drawer")
        for _ in range(frames)
    )
    seconds: dict[str, float] = {}
    started, part = time.monotonic(), "hashing"

    def on_step(step: Step) -> None:
        nonlocal started, part
        now = time.monotonic()
        seconds[part] = now - started
        started, part = now, step.name

    checkpoint = open_checkpoint(source)
    calibration = CalibrationFrames(("random pixels",), drawn) if frames else None
    manifest = compress(checkpoint, recipe, out, frames=calibration, on_step=on_step)
    peak_gib = _peak_gib()
    in_float = recipe.model_copy(update={"towers": "float"})
    towers, _ = vision_tensors(read_parts(checkpoint.weights)[VISION], manifest.shapes, in_float)
    float_towers = sum(tensor.nbytes for tensor in towers.values())
    return {
        "disk_gib": manifest.nbytes / GIB,
        "disk_gib_float_towers": (manifest.nbytes - manifest.files[VISION].nbytes + float_towers) / GIB,
        "peak_gib": peak_gib,
        "seconds": seconds,
    }


def _load_and_plan(directory: Path) -> dict[str, Any]:
    from sqap_vla_ros.config.robot import load_configuration
    from sqap_vla_ros.core.observation import Observation
    from sqap_vla_ros.policies.registry import load_policy

    started = time.monotonic()
    configuration = load_configuration("libero_panda", checkpoint=str(directory), policy="sqap", torch_threads=2)
    policy = load_policy(configuration, print)
    load_s = time.monotonic() - started
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    plan_s = []
    for stamp_ns in range(1, 5):
        started = time.monotonic()
        chunk = policy.plan(Observation(stamp_ns, image, "open the drawer", np.eye(4), np.array([320.0, 240.0])))
        plan_s.append(time.monotonic() - started)
    if not np.isfinite(chunk.actions).all():
        raise ValueError("the plan is not finite")
    return {
        "resident_gib": _status_gib("VmRSS"),
        "peak_gib": _peak_gib(),
        "load_s": load_s,
        "plan_s": float(np.median(plan_s[1:])),
        "parameters": policy.metadata.parameters,
        "weights_gib": policy.metadata.memory_bytes / GIB,
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def _status_gib(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / GIB


if __name__ == "__main__":
    tyro.cli(main)
