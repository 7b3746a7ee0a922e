"""Which figures of `results/` become a table of a page: its rows, its columns, and what a reader sees of both."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """How the figures of one file become a table.

    Attributes:
        head: Heading of the first column.
        columns: A figure's name, with a star where the row's name is, to the column's heading and its format. One
            without a heading is the upper end of the interval in the column before it.
        labels: A row's name to what the reader sees; a row without a label is shown by its name.
    """

    head: str
    columns: Mapping[str, tuple[str, str]]
    labels: Mapping[str, str]


_SUCCESS = {
    "success_*": ("success, %", ".1f"),
    "success_*_low": ("95 % interval", ".1f"),
    "success_*_high": ("", ".1f"),
    "paired_difference_*": ("minus float, points", "+.1f"),
    "paired_difference_*_low": ("95 % interval", "+.1f"),
    "paired_difference_*_high": ("", "+.1f"),
}
_BOTH = "both (pruning + W4A4)"
_FLOAT_BASELINES = {
    "fp16": "float, all tokens (`fp16`)",
    "random": "`random`, float",
    "fastv": "`fastv`, float",
    "vla_cache": "`vla_cache`, float",
    "efficientvla": "`efficientvla`, float",
}

TABLES = {
    "closed_loop": Table(
        "policy and weights",
        {
            **_SUCCESS,
            "task_pick_can_*": ("pick can, %", ".0f"),
            "task_move_near_*": ("move near, %", ".0f"),
            "task_open_drawer_*": ("open drawer, %", ".0f"),
            "task_close_drawer_*": ("close drawer, %", ".0f"),
            "task_place_in_drawer_*": ("place in drawer, %", ".0f"),
            "task_bowl_on_plate_*": ("bowl on plate, %", ".0f"),
            "played_*": ("episodes", ".0f"),
            "seconds_*": ("duration, s", ".1f"),
            "jerk_*": ("joint jerk, rad/s³", ".0f"),
            "path_m_*": ("tool path, m", ".2f"),
        },
        {
            **_FLOAT_BASELINES,
            "sqap": f"{_BOTH}: `sqap` on `w4a4-residual`",
            "w4a4": "W4A4, all tokens: `dense` on `w4a4-residual`",
            "w4a4_topk": "attention alone: `topk` on `w4a4-residual`",
            "w4a4_topk_ring": "attention and ring: `topk-ring` on `w4a4-residual`",
            "sqap_ratio_0.3": "both, prune ratio 0.3",
            "sqap_ratio_0.5": "both, prune ratio 0.5",
            "sqap_ratio_0.6": "both, prune ratio 0.6",
            "qvla": "all tokens on `qvla` (weights 4 bits in the mean, activations 8)",
            "smoothquant_w4a4": "all tokens on `smoothquant-w4a4`",
        },
    ),
    "robustness": Table(
        "disturbance",
        {
            "success_fp16_*": ("float: success, %", ".0f"),
            "paired_difference_fp16_*": ("float: change, points", "+.0f"),
            "paired_difference_fp16_*_low": ("95 % interval", "+.0f"),
            "paired_difference_fp16_*_high": ("", "+.0f"),
            "success_sqap_*": ("both: success, %", ".0f"),
            "paired_difference_sqap_*": ("both: change, points", "+.0f"),
            "paired_difference_sqap_*_low": ("95 % interval", "+.0f"),
            "paired_difference_sqap_*_high": ("", "+.0f"),
        },
        {
            "none": "none",
            **{f"tf_offset_{size}": f"base → camera transform off by {size} m" for size in ("0.01", "0.02", "0.05")},
            **{f"camera_rotation_{size}": f"camera turned by {size}°" for size in ("1", "2", "5")},
            **{f"camera_translation_{size}": f"camera moved by {size} m" for size in ("0.01", "0.02", "0.05")},
            **{f"image_noise_{size}": f"pixel noise of {size} grey levels" for size in ("5", "15", "30")},
            **{f"drop_frames_{size}": f"{float(size):.0%} of the frames lost" for size in ("0.1", "0.3", "0.5")},
            **{f"delay_{size}": f"image to command delayed by {size} s" for size in ("0.05", "0.1", "0.2", "0.3")},
        },
    ),
    "planted_outliers": Table(
        "recipe, all tokens",
        _SUCCESS,
        {
            "fp16": "float",
            "rtn_w4a4": "`rtn-w4a4`",
            "rotated_w4a4": "`rotated-w4a4`",
            "smoothquant_w4a4": "`smoothquant-w4a4`",
            "paper_w4a4": "`qk-rotation`",
            "residual_w4a4": "`w4a4-residual`",
            "online_w4a4": "`w4a4-online`",
        },
    ),
    "trained_language_model": Table(
        "recipe",
        {
            "weight_bits_*": ("weights, bits", ".0f"),
            "activation_bits_*": ("activations, bits", ".0f"),
            "perplexity_handbook_*": ("perplexity: handbook", ".1f"),
            "perplexity_fortunes_*": ("fortunes", ".1f"),
            "ratio_*": ("ratio to float", ".2f"),
            "ratio_*_low": ("95 % interval", ".2f"),
            "ratio_*_high": ("", ".2f"),
            "top4_overlap_*": ("attention: top-4 overlap, %", ".0f"),
            "top32_overlap_*": ("top-32, %", ".0f"),
            "top128_overlap_*": ("top-128, %", ".0f"),
        },
        {"float": "float", "quarot-style": "as QuaRot: rotation and GPTQ, nothing smoothed"},
    ),
    "cpu_speed": Table(
        "policy and weights",
        {
            "llm_speedup_*": ("language model, ×", ".2f"),
            "e2e_speedup_*": ("end to end, ×", ".2f"),
            "bops_percent_*": ("BOPs, Σ 2·MAC·b_w·b_a, %", ".1f"),
            "bops_by_width_percent_*": ("BOPs, Σ MAC·max(b_w, b_a), %", ".1f"),
        },
        {
            **_FLOAT_BASELINES,
            "pruning": "pruning alone: `sqap` on float weights",
            "w4a4": "W4A4 alone: `dense` on `w4a4-residual`",
            "sqap": f"{_BOTH}: `sqap` on `w4a4-residual`",
            "sqap_paper": "both, recipe `qk-rotation`",
            "sqap_online": "both, recipe `w4a4-online`",
        },
    ),
    "deployment": Table(
        "GPU",
        {
            "calculated_ms_fp16_*": ("plan: float, ms", ".1f"),
            "calculated_ms_w8a8_*": ("W8A8, ms", ".1f"),
            "calculated_ms_w4a4_*": ("W4A4, ms", ".1f"),
            "calculated_ms_both_0.4_*": ("both, ms", ".1f"),
            "calculated_llm_ms_fp16_*": ("language model: float, ms", ".1f"),
            "calculated_llm_ms_w8a8_*": ("W8A8, ms", ".1f"),
            "calculated_llm_ms_w4a4_*": ("W4A4, ms", ".1f"),
            "calculated_llm_ms_both_0.4_*": ("both, ms", ".1f"),
            "calculated_pruning_pays_to_*": ("pruning pays up to a ratio of", "g"),
        },
        {},
    ),
    "fidelity": Table(
        "recipe",
        {
            "cognition_error_*": ("cognition error, relative", ".3f"),
            "action_error_*": ("action error, relative", ".3f"),
            "topk32_overlap_*": ("top-32 overlap, %", ".0f"),
            "kept_overlap_*": ("kept tokens in common, %", ".0f"),
            "outlier_probability_error_*": ("outlier channels: attention error, relative", ".3f"),
            "outlier_topk32_overlap_*": ("outlier channels: top-32 overlap, %", ".0f"),
        },
        {
            "shuffled": "by chance",
            "nearest": "W4A4 by rounding alone",
            "qk-rotation": "qk-rotation (W4A4)",
            "qvla": "qvla (4 bits in the mean, A8)",
            "qvla-rotated": "qvla-rotated (4 bits in the mean, A8)",
        },
    ),
    "continuity": Table(
        "blending",
        {
            "max_jerk_*": ("largest joint jerk, share of its limit", ".2f"),
            "max_acceleration_*": ("largest joint acceleration, share of its limit", ".2f"),
            "tracking_rms_m_*": ("RMS distance of the tool, m", ".4f"),
            "tool_jerk_rms_m_s3_*": ("RMS jerk of the tool, m/s³", ".1f"),
        },
        {name: f"`{name}`" for name in ("none", "ensemble", "temporal", "real_time")},
    ),
    # Of `sqap-vla bench` on a GPU, taken over by `python -m benchmarks.gpu`; not measured yet.
    "gpu": Table(
        "policy",
        {
            "*_ms": ("plan, ms", ".2f"),
            "*_p99_ms": ("p99, ms", ".2f"),
            "*_device_ms": ("on the device, ms", ".2f"),
            "roofline_*_ms": ("floor, ms", ".2f"),
            "e2e_speedup_*": ("speed-up, ×", ".2f"),
            "llm_speedup_*": ("language model, ×", ".2f"),
            "peak_gib_*": ("peak, GiB", ".2f"),
            "chunk_error_*": ("chunk against the eager path, relative", ".1e"),
        },
        {},
    ),
}
