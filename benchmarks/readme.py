"""Writes the tables of the README and of `docs/figures.md` from `results/`; `--check` only says if they are current."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tyro

from benchmarks.results import RESULTS

ROOT = RESULTS.parents[1]
README, OTHERS = ROOT / "README.md", ROOT / "docs" / "figures.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
# Files whose figures stand in the README; the others' stand in docs/figures.md.
IN_README = ("closed_loop", "cpu_speed", "demo", "faults", "gpu_h200", "planted_outliers", "robustness")
_HEAD = """# More figures

Written by `python -m benchmarks.readme` from `benchmarks/results/`, as those in the [README](../README.md#figures); the
command under each table measures it again.
"""

# File -> figure -> what it means in words, and its unit.
MEANINGS = {
    "node_overhead": {
        "overhead_p99_ms_640x480": ("node overhead, p99, 640×480 at 20 Hz, sleeping policy", "ms"),
        "overhead_p99_ms_1920x1080": ("node overhead, p99, 1920×1080 at 20 Hz, sleeping policy", "ms"),
        "overhead_p99_ms_640x480_small_model": ("node overhead, p99, 640×480 at 20 Hz, small random model", "ms"),
        "image_to_trajectory_p99_ms": (
            "image published to trajectory received in the demo, p99",
            "ms",
        ),
        "demo_rate_hz": ("commands per simulated second in the demo", "Hz"),
    },
    "faults": {
        "faults_injected": ("faults injected while the arm moves", ""),
        "unsafe_commands": ("samples of the arm's motion at 100 Hz that a real arm would not have survived", ""),
        "faults_not_named": ("faults that the node did not name", ""),
        "faults_without_recovery": ("faults after which the arm did not move again by itself or `~/resume`", ""),
        "hold_p99_ms": ("from a fault being detectable to the ramp's arrival at the controller, p99", "ms"),
        "hold_median_ms": ("the same, median", "ms"),
    },
    "soak": {
        "minutes": ("duration, small random model at 20 Hz", "min"),
        "rss_growth_percent": ("growth of the node's and its policy's memory", "%"),
        "missed_statuses": ("statuses that did not come", ""),
        "rss_mib": ("memory of the node and its policy at the end", "MiB"),
        "ticks": ("ticks measured", ""),
        "overhead_p99_ms_640x480": ("node overhead right after it, p99, 640×480 at 20 Hz, sleeping policy", "ms"),
    },
    "cpu_speed": {"selection_ms": ("SQAP's choice of 154 of 256 tokens", "ms")},
    "cpu_full_size": {
        "disk_gib_w8_towers": ("size on disk, 8-bit towers", "GiB"),
        "disk_gib_float_towers": ("size on disk, float towers", "GiB"),
        "disk_share_of_bfloat16": ("size on disk relative to the bfloat16 checkpoint", ""),
        "compress_minutes_rtn": ("compressing, round to nearest", "min"),
        "compress_minutes_gptq": ("compressing, GPTQ on 32 frames, extrapolated from two layers", "min"),
        "compress_peak_rss_gib": ("compressing, round to nearest: most memory held", "GiB"),
        "compress_peak_rss_gib_gptq": ("compressing, GPTQ on 32 frames: most memory held", "GiB"),
        "load_seconds": ("loading", "s"),
        "resident_gib": ("memory held after the first plans", "GiB"),
        "load_peak_gib": ("most memory held while loading and planning", "GiB"),
        "plan_seconds": ("a plan, policy sqap, float32 where not quantised", "s"),
    },
    "replay_scale": {
        "memory_ratio_10min_to_1min": ("most memory held, bag of 10 minutes to bag of 1 minute", "×"),
        "peak_mib_1min": ("most memory held, bag of 1 minute", "MiB"),
        "peak_mib_10min": ("most memory held, bag of 10 minutes", "MiB"),
        "realtime_factor_one_core": ("reading, decoding (JPEG) and projecting on one core, to real time", "×"),
        "realtime_factor_one_core_raw": ("the same, raw images", "×"),
    },
    "kinematics": {
        "tracking_solved_percent": ("way-points solved while tracking", "%"),
        "tracking_solved_percent_worst": ("the same, of the arm where it is least", "%"),
        "ms_per_waypoint_median": ("per way-point, median", "ms"),
        "ms_per_chunk_p99": ("per chunk of 16, p99", "ms"),
        "cold_solved_percent": ("any reachable pose from the middle of the joints' ranges", "%"),
        "robots": ("arms", ""),
    },
    "closed_loop": {
        "episodes_per_task": ("episodes per task of `fp16` and `sqap`", ""),
        "tasks": ("tasks", ""),
    },
    "deployment": {
        "calculated_weights_gib_fp16": ("weights in bfloat16", "GiB"),
        "calculated_weights_gib_w4a4": ("weights in W4A4, towers in 8 bits, action head in float16", "GiB"),
    },
    "gpu_h200": {
        "context_gib": ("memory of the CUDA context, beside the peaks", "GiB"),
        "selection_us": ("SQAP's choice of 154 of 256 tokens", "µs"),
    },
    "demo": {
        "setup_and_run_minutes": ("`make demo` on a clean clone", "min"),
        "second_run_minutes": ("`make demo` again", "min"),
        "success_of_10": ("of ten official initial states of its task, how many the demo succeeds from", ""),
        "plans_per_s": ("plans per second there, median", "1/s"),
    },
}

# Kind of disturbance -> in words.
_DISTURBED = {
    "tf_offset": "a wrong transform from base to camera [m] (it moves the protected ring and nothing else)",
    "camera_rotation": "a camera that turned since it was calibrated [deg]",
    "camera_translation": "a camera that moved since it was calibrated [m]",
    "image_noise": "pixel noise [grey levels]",
    "drop_frames": "frames dropped [share]",
    "delay": "delay from image to command [s]",
}


def _robustness_note(figures: Mapping[str, float]) -> str:
    """Names the disturbances that were played."""
    played = [words for kind, words in _DISTURBED.items() if any(f"_{kind}_" in name for name in figures)]
    return (
        f"The small trained CogACT on LIBERO tasks, disturbed: {', '.join(played)}. "
        "![Success against disturbance](docs/robustness.png)"
    )


# File -> what must be known to read its figures, above them; a function where it depends on them.
NOTES: dict[str, str | Callable[[Mapping[str, float]], str]] = {
    "replay_scale": (
        "Replay of generated bags: camera of 640×480 at 30 Hz, transforms at 100 Hz, a policy that takes no time, with "
        "report, annotated recording and video."
    ),
    "cpu_speed": (
        "CogACT-Base's full widths, 256 visual and 24 text tokens, what is not quantised in bfloat16 (policy file: "
        "`precision: bfloat16`; `auto` is float32 on a CPU). Speed-ups over `fp16` on this project's own forward pass. "
        "`w4a4` is quantisation alone, `pruning` is the policy `sqap` on float weights, `sqap` is both. "
        "![Seconds per plan and stage](docs/cpu_speed.png)"
    ),
    "cpu_full_size": "CogACT-Base at its full size, random weights.",
    "continuity": (
        "Chunks joined into one motion of the simulated Panda, inference of 50 to 300 ms: the largest joint jerk as a "
        "share of the limit in its YAML, the tool's RMS distance from the moving point that the policy wants it at, "
        "and the RMS of the tool's jerk, over 40 s; the picture shows 4 to 10 s of them. Each chunk is drawn anew by "
        "the diffusion sampler around the way to that point, so that successive chunks disagree. "
        "![Motion per way of blending](docs/continuity.png)"
    ),
    "kinematics": (
        "Inverse kinematics along smooth paths, targets at most 0.05 m and 0.25 rad apart, solved within 1 mm, 0.1° "
        "and the joints' limits: six arms of robosuite's, four generated chains of six and seven joints. Processor "
        "time."
    ),
    "deployment": (
        "**Calculated, not measured**: milliseconds below which no program plans with CogACT-Base (256 visual and 24 "
        "text tokens, 10 diffusion steps), from the makers' data sheets: each product takes the time of its arithmetic "
        "or of reading its weights, whichever is longer; 4-bit codes multiplied as 8-bit ones, as this project's "
        "kernels do. The last column is the prune ratio up to which the quantised language model still gains at least "
        "5 %: beyond it, reading the weights is what takes the time; 0: pruning gains nothing there."
    ),
    "gpu_h200": (
        "CogACT-Base's full size, random weights, from the camera image to the actions; the floor is that of the rates "
        "measured in the same run. ![Milliseconds per plan and stage](docs/gpu_h200.png)"
    ),
    "closed_loop": (
        "The small trained CogACT on LIBERO tasks, in simulation; initial states that are not in the demonstrations. A "
        "row of fewer episodes plays the first ones of each task, and its difference to `fp16` is over those. Success "
        "with Wilson's 95 % interval; differences with Newcombe's (1998, method 10). Random dropping, FastV, VLA-Cache "
        "and EfficientVLA on float weights. A model of this size has not the outlier channels of a 7 B one: this "
        "measures pruning and the pipeline, and does not predict W4A4 on CogACT-Base. "
        "![Success per row and task](docs/closed_loop.png)"
    ),
    "planted_outliers": (
        "What rotation is worth: the small trained CogACT, in which one of 32 channels of every linear layer's input "
        "was made 30 times as large and the weights that read it as much smaller. Float actions stay the same; every "
        "row keeps all tokens. `rotated_w4a4` is `rtn_w4a4` with all inputs rotated, `paper_w4a4` rotates queries and "
        "keys alone, `residual_w4a4` (recipe `sqap-w4a4`) smooths and rotates, the residual stream offline, "
        "`online_w4a4` smooths and rotates all inputs while it runs. Outliers planted as a factor per channel are just "
        "what smoothing takes out again, so this shows what rotation does without it, not that smoothing is always "
        "enough. ![Success per recipe and task](docs/planted_outliers.png)"
    ),
    "robustness": _robustness_note,
    "faults": (
        "Each fault meets a node whose arm goes round in a circle, and is undone again: the arm must then move again "
        "without a restart of the node (a policy that died is started again). *hold*: the ramp to rest, and on by "
        "itself when the cause is gone; *stop*: the ramp, and on after `~/resume`. `hold_ms`: from the moment when the "
        "fault could be known (the age limit has passed, the plan is there) to the ramp's arrival at the controller. "
        "`rest_s`: from the fault to the arm at rest, with age limits of 0.2 to 0.45 s and a horizon of 1 s."
    ),
    "fidelity": (
        "Small random model, each recipe calibrated on other frames than it is asked: errors relative to the float "
        "model's cognition feature and action chunk with the same noise; visual tokens that both look at most, and "
        "that both keep (`shuffled`: by chance). Outlier channels: synthetic inputs, 8 of 4096 channels at 100 times "
        "the others, arising in the residual stream; there `sqap-w4a4` does no better than the paper's mode, and "
        "smoothing before the rotation (`sqap-w4a4-online`) does. `nearest`: W4A4 by rounding alone, measured on "
        "these inputs only. ![Fidelity per recipe](docs/fidelity.png)\n\n"
        "Where outliers arise changes the order of the recipes: in the residual stream (as in the table), by the "
        "norm's gain, or in the stream where they make up most of queries and keys. "
        "![Error of attention per recipe and kind of outliers](docs/outliers.png)"
    ),
}

_SUCCESS = {
    "success_*": ("success", "{:.1f} %"),
    "success_*_low": ("95 %: from", "{:.1f}"),
    "success_*_high": ("to", "{:.1f}"),
    "paired_difference_*": ("minus `fp16`, points", "{:+.1f}"),
    "paired_difference_*_low": ("95 %: from", "{:+.1f}"),
    "paired_difference_*_high": ("to", "{:+.1f}"),
}

# File -> first column's heading, and a figure's name with a star where the row's is (none: at its end) -> heading and
# format. Columns without a heading or without a figure are left out.
GRIDS = {
    "planted_outliers": ("row", _SUCCESS),
    "deployment": (
        "GPU",
        {
            "calculated_ms_fp16_": ("`fp16`", "{:.1f}"),
            "calculated_ms_w8a8_": ("W8A8", "{:.1f}"),
            "calculated_ms_w4a4_": ("W4A4", "{:.1f}"),
            "calculated_ms_both_0.4_": ("pruning + W4A4", "{:.1f}"),
            "calculated_llm_ms_fp16_": ("language model: `fp16`", "{:.1f}"),
            "calculated_llm_ms_w8a8_": ("W8A8", "{:.1f}"),
            "calculated_llm_ms_w4a4_": ("W4A4", "{:.1f}"),
            "calculated_llm_ms_both_0.4_": ("pruning + W4A4", "{:.1f}"),
            "calculated_pruning_pays_to_": ("pruning pays up to", "{:g}"),
        },
    ),
    "gpu_h200": (
        "policy",
        {
            "*_ms": ("plan, ms", "{:.2f}"),
            "*_p99_ms": ("p99", "{:.2f}"),
            "*_device_ms": ("on the device", "{:.2f}"),
            "roofline_*_ms": ("floor", "{:.2f}"),
            "e2e_speedup_*": ("speed-up", "{:.2f}×"),
            "llm_speedup_*": ("language model", "{:.2f}×"),
            "peak_gib_*": ("peak, GiB", "{:.2f}"),
            "chunk_error_*": ("chunk against the plain path", "{:.1e}"),
        },
    ),
    "cpu_speed": (
        "policy",
        {
            "llm_speedup_": ("language model", "{:.2f}×"),
            "e2e_speedup_": ("end to end", "{:.2f}×"),
            "bops_percent_": ("BOPs, Σ 2·MAC·b_w·b_a", "{:.1f} %"),
            "bops_by_width_percent_": ("BOPs, Σ MAC·max(b_w, b_a)", "{:.1f} %"),
        },
    ),
    "fidelity": (
        "recipe",
        {
            "cognition_error_": ("cognition error", "{:.3f}"),
            "action_error_": ("action error", "{:.3f}"),
            "topk32_overlap_": ("top-32 overlap", "{:.0f} %"),
            "kept_overlap_": ("kept tokens in common", "{:.0f} %"),
            "outlier_probability_error_": ("outlier channels: attention error", "{:.3f}"),
            "outlier_topk32_overlap_": ("outlier channels: top-32 overlap", "{:.0f} %"),
        },
    ),
    "continuity": (
        "blending",
        {
            "max_jerk_*": ("largest jerk", "{:.2f}"),
            "max_acceleration_*": ("", ""),  # 1.00, the limit, in every row
            "tracking_rms_m_*": ("distance, m", "{:.4f}"),
            "tool_jerk_rms_m_s3_*": ("tool's jerk, m/s³", "{:.1f}"),
        },
    ),
    "closed_loop": (
        "row",
        {
            **_SUCCESS,
            "task_pick_can_*": ("pick can", "{:.0f} %"),
            "task_move_near_*": ("move near", "{:.0f} %"),
            "task_open_drawer_*": ("open drawer", "{:.0f} %"),
            "task_close_drawer_*": ("close drawer", "{:.0f} %"),
            "task_place_in_drawer_*": ("place in drawer", "{:.0f} %"),
            "task_bowl_on_plate_*": ("bowl on plate", "{:.0f} %"),
            "played_*": ("episodes", "{:.0f}"),
            "seconds_*": ("s", "{:.1f}"),
            "jerk_*": ("jerk, rad/s³", "{:.0f}"),
            "path_m_*": ("path, m", "{:.2f}"),
        },
    ),
    "robustness": (
        "disturbance",
        {
            "success_fp16_*": ("`fp16`", "{:.1f} %"),
            "paired_difference_fp16_*": ("minus undisturbed, points", "{:+.1f}"),
            "paired_difference_fp16_*_low": ("95 %: from", "{:+.1f}"),
            "paired_difference_fp16_*_high": ("to", "{:+.1f}"),
            "success_sqap_*": ("`sqap`", "{:.1f} %"),
            "paired_difference_sqap_*": ("minus undisturbed, points", "{:+.1f}"),
            "paired_difference_sqap_*_low": ("95 %: from", "{:+.1f}"),
            "paired_difference_sqap_*_high": ("to", "{:+.1f}"),
        },
    ),
}


def _grid(stem: str, figures: dict[str, float]) -> list[str]:
    """Lines of a table with a row per policy or recipe; its figures are taken out."""
    heading, columns = GRIDS.get(stem, ("", {}))
    rows: dict[str, dict[str, str]] = {}
    # The longest name first: `success_*` would take `success_*_low` for a row of its own.
    patterns = [(*column.partition("*")[::2], column) for column in sorted(columns, key=len, reverse=True)]
    for name in list(figures):
        for before, after, column in patterns:
            if name.startswith(before) and name.endswith(after):
                row = name.removeprefix(before).removesuffix(after)
                rows.setdefault(row, {})[column] = columns[column][1].format(figures.pop(name))
                break
    order = list(columns)
    rows = dict(sorted(rows.items(), key=lambda entry: min(map(order.index, entry[1]))))
    shown = [column for column in order if columns[column][0] and any(column in cells for cells in rows.values())]
    if not rows:
        return []
    lines = [f"| {heading} | " + " | ".join(columns[column][0] for column in shown) + " |"]
    lines.append("| --- |" + " --- |" * len(shown))
    return lines + [
        f"| {row} | " + " | ".join(cells.get(column, "") for column in shown) + " |" for row, cells in rows.items()
    ]


def _cases(cases: list[dict[str, Any]]) -> list[str]:
    """Lines of a table with a row per case and a column per field."""
    lines = [f"| {' | '.join(cases[0])} |", "| --- " * len(cases[0]) + "|"]
    return lines + [
        f"| {' | '.join('' if value is None else str(value) for value in case.values())} |" for case in cases
    ]


def _origin(result: Mapping[str, Any]) -> str:
    """Command, date and machine; of a table whose rows were measured one by one, the command for all and each date."""
    command, when = result["command"], result["date"]
    if "measured" in result:
        command = command.partition(" --")[0]
        rows: dict[str, list[str]] = {}
        for row, commit_and_date in result["measured"].items():
            rows.setdefault(commit_and_date, []).append(f"`{row}`")
        *first, last = rows
        named = [f"{', '.join(rows[one])}: {one}" for one in first]
        when = "; ".join([*named, f"the others: {last}" if first else last])
    return f"`{command}`; {when}; {result['machine']}."


def _table(stem: str) -> str:
    """One file of results as Markdown."""
    result: dict[str, Any] = json.loads((RESULTS / f"{stem}.json").read_text(encoding="utf-8"))
    meanings = MEANINGS.get(stem, {})
    figures = dict(result["figures"])
    grid = _grid(stem, figures)
    rows = []
    for name, value in figures.items():
        words, unit = meanings.get(name, (name, ""))
        rows.append(f"| {words} | {value:g} {unit} |")
    listed = ["| | |", "| --- | --- |", *rows] if rows else []
    cases = result.get("cases")
    if isinstance(cases, list):
        listed += ["", *_cases(cases)]
    note = NOTES.get(stem)
    if callable(note):
        note = note(result["figures"])
    above = [f"{note}\n"] if note else []
    return "\n".join([*above, *grid, *([""] if grid and listed else []), *listed]) + f"\n\n{_origin(result)}\n"


def pages() -> dict[Path, str]:
    """The pages as they must be, by path: the README with its tables, and the others."""
    stems = sorted(path.stem for path in RESULTS.glob("*.json"))
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n".join(f"### {stem}\n\n{_table(stem)}" for stem in stems if stem in IN_README)
    others = "\n".join(f"## {stem}\n\n{_table(stem)}" for stem in stems if stem not in IN_README)
    return {
        README: f"{before}{BEGIN}\n\n{tables}\n{END}{after}",
        OTHERS: f"{_HEAD}\n{others}".replace("](docs/", "]("),
    }


def main(check: bool = False) -> None:
    """Update both pages.

    Args:
        check: Change nothing; exit with 1 when the tables are not those of the results.
    """
    for path, text in pages().items():
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"the tables in {path.name} are out of date: run python -m benchmarks.readme")


if __name__ == "__main__":
    tyro.cli(main)
