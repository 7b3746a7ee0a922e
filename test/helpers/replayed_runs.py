"""Results of a replay whose right figures are known by construction, for a bag of `synthetic_bags`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_bags import START_NS, tool_x_m

from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.token_selection import Reason, TokenSelection, selection_of
from sqap_vla_ros.tools.replay.results import ReplayResults

HORIZON, TIME_STEP_S = 4, 0.05
KEPT = selection_of({Reason.ATTENTION: np.arange(0, 8), Reason.RING: np.arange(100, 110)})
OTHER_KEPT = selection_of({Reason.ATTENTION: np.arange(4, 12), Reason.RING: np.arange(100, 110)})


def stamp_ns(tick: int) -> int:
    """Of the tick-th image of a synthetic bag."""
    return START_NS + (5 + 10 * tick) * 10**7 - 3_000_000


def write_run(
    directory: Path,
    name: str = "bag",
    *,
    ticks: int = 10,
    offset_m: float = 0.0,
    seconds: float = 0.1,
    baseline: bool = True,
    selection: TokenSelection = KEPT,
    refused: tuple[int, ...] = (),
    damage: str = "",
    laps: int = 1,
    lap_seconds: float = 0.0,
    changed: Mapping[str, Any] | None = None,
    noise_m: float | None = None,
    noise_of: str = "policy",
) -> Path:
    """Plans along the tool's way, off by `offset_m` to the side; the worst tick is the sixth, by twice as much.

    The tool's way is known up to the last three ticks; the baseline plans along it. After each of several laps the
    clock is set back to the beginning, and a plan takes `lap_seconds` longer. `changed` fields are of every chunk.
    Two plans of the policy, or of the baseline (`noise_of`), with other noise are `noise_m` apart.
    """
    settings = {"bag": f"recordings/{name}", "bag_seconds": 1.0, "policy": "sqap-1234", "weights": "w4a4"}
    settings |= {"noise_floor_of": "" if noise_m is None else noise_of}
    with ReplayResults(directory, {**settings, "robot": "synthetic"}) as results:
        results.baseline = "fp16-1234" if baseline else ""
        for lap, tick in product(range(laps), range(ticks)):
            at_ns = stamp_ns(tick)
            if tick in refused:
                results.add_rejection(at_ns, "no transform <base> -> <tool>")
                continue
            plan = replace(chunk(at_ns, selection, seconds + lap * lap_seconds), **(changed or {}))
            other = chunk(at_ns, OTHER_KEPT, 2 * seconds) if baseline else None
            results.add_tick(plan, measured(tick, ticks, offset_m, baseline, noise_m), None, other)
    results.write_summary(damage)
    return directory


def write_runs(directory: Path, *names: str, failed: Mapping[str, str] | None = None) -> Path:
    """Results of several bags, as `sqap-vla replay` leaves them."""
    for name in names:
        write_run(directory / name, name, offset_m=0.005)
    overview = {"bags": dict.fromkeys(names), "failed": failed or {}}
    (directory / "summary.json").write_text(json.dumps(overview), encoding="utf-8")
    return directory


def chunk(at_ns: int, selection: TokenSelection, seconds: float) -> ActionChunk:
    """A chunk whose actions nobody looks at; its tool stands where the synthetic bag has it."""
    T_base_tool = np.eye(4)
    T_base_tool[0, 3] = tool_x_m(at_ns)
    return ActionChunk(
        stamp_ns=at_ns,
        actions=np.zeros((HORIZON, 7)),
        time_step_s=TIME_STEP_S,
        T_base_tool=T_base_tool,
        instruction="pick up the can",
        seed=at_ns,
        selection=selection,
        tool_px=np.array([80.0 + 128.0 * tool_x_m(at_ns), 60.0]),
        timings_s={"vision": 0.25 * seconds, "language": 0.75 * seconds},
    )


def measured(tick: int, ticks: int, offset_m: float, baseline: bool, noise_m: float | None = None) -> dict[str, object]:
    """The columns that tell how far plan and truth, and plan and baseline, are apart."""
    way = np.zeros((HORIZON, 3))
    way[:, 0] = [tool_x_m(stamp_ns(tick) + round(step * TIME_STEP_S * 1e9)) for step in range(1, HORIZON + 1)]
    apart_m = offset_m * (2 if tick == 5 else 1)
    path = way + (0.0, apart_m, 0.0)
    known = tick < ticks - 3
    columns: dict[str, object] = {
        "path_m": path.ravel().tolist(),
        "truth_path_m": (way if known else np.full_like(way, np.nan)).ravel().tolist(),
        "truth_mean_displacement_m": apart_m if known else None,
        "truth_final_displacement_m": apart_m if known else None,
    }
    columns |= {"path_rotations_rad": [0.0] * 3 * HORIZON, "path_gripper": [1.0] * HORIZON}
    columns |= {"truth_path_rotations_rad": [0.0 if known else np.nan] * 3 * HORIZON}
    columns |= {"truth_gripper": [1.0 if known else np.nan] * HORIZON}
    if noise_m is not None:
        columns |= {"noise_mean_displacement_m": noise_m, "noise_final_displacement_m": noise_m}
        columns |= {"noise_rotation_rad": 0.0, "noise_gripper_agreement": 1.0}
    if baseline:
        columns |= {"baseline_path_rotations_rad": [0.0] * 3 * HORIZON, "baseline_path_gripper": [1.0] * HORIZON}
        columns |= {"baseline_rotation_rad": 0.0, "baseline_gripper_agreement": 1.0}
        columns |= {
            "baseline_path_m": way.ravel().tolist(),
            "baseline_mean_displacement_m": apart_m,
            "baseline_final_displacement_m": apart_m,
            "kept_overlap": 14 / 18,
        }
    return columns
