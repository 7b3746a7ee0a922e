"""Floors of GPUs that were not measured, from their data sheets, and where pruning gains nothing on them."""

from dataclasses import dataclass
from itertools import pairwise

from rich.table import Table

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.policies.cogact.published import published_shapes
from sqap_vla_ros.tools.benchmark.cost import language_tokens, plan_products, weight_bytes
from sqap_vla_ros.tools.benchmark.roofline import DATA_SHEETS, Device, floors_s
from sqap_vla_ros.tools.benchmark.rows import FORMATS

RATIOS = (0.3, 0.4, 0.5, 0.6)
BOTH = "both_0.4"  # pruning and W4A4
# Name in the figures -> operand widths and pruning.
POLICIES = {
    "fp16": (FORMATS["float"], None),
    "w4a16": (FORMATS["w4a16"], None),
    "w8a8": (FORMATS["w8a8"], None),
    "w4a4": (FORMATS["w4a4"], None),
    **{f"both_{ratio:g}": (FORMATS["w4a4"], SqapConfig(ratio=ratio)) for ratio in RATIOS},
}
TEXT_TOKENS = 24
# A gain below this is none: the choice of tokens itself and the gather take time that a floor does not count.
_LEAST_GAIN = 1.05


@dataclass(frozen=True)
class Deployment:
    """Floors on one device.

    Attributes:
        device: The device.
        total_ms: Floor of a whole plan by policy, milliseconds.
        language_ms: Floor of the language model by policy, milliseconds.
        weights_gib: Memory of the weights by policy, GiB.
    """

    device: Device
    total_ms: dict[str, float]
    language_ms: dict[str, float]
    weights_gib: dict[str, float]

    @property
    def pruning_pays_to(self) -> float:
        """Largest ratio that makes the quantised language model faster than the next smaller ratio; 0: none does.

        Beyond it the time is that of reading the weights, however few tokens there are.
        """
        policies = ["w4a4", *(f"both_{ratio:g}" for ratio in RATIOS)]
        times = [self.language_ms[policy] for policy in policies]
        pays = [
            ratio
            for ratio, (before, after) in zip(RATIOS, pairwise(times), strict=True)
            if before >= _LEAST_GAIN * after
        ]
        return max(pays, default=0.0)


def deployments(size: str = "base") -> list[Deployment]:
    """Calculate the floors on all devices with a data sheet.

    Args:
        size: Size of the action head, a key of `published.HEADS`.
    """
    shapes = published_shapes(size)
    plans = {
        name: plan_products(shapes, language_tokens(pruning, shapes, TEXT_TOKENS), formats, needed_only=True)
        for name, (formats, pruning) in POLICIES.items()
    }
    weights_gib = {name: weight_bytes(shapes, formats) / 2**30 for name, (formats, _) in POLICIES.items()}
    rows = []
    for device in DATA_SHEETS:
        floors = {name: floors_s(products, device) for name, products in plans.items()}
        total_ms = {name: 1e3 * sum(stages.values()) for name, stages in floors.items()}
        language_ms = {name: 1e3 * stages["language"] for name, stages in floors.items()}
        rows.append(Deployment(device, total_ms, language_ms, weights_gib))
    return rows


def deployment_table(rows: list[Deployment]) -> Table:
    """Make a table of the floors for a console."""
    weights = rows[0].weights_gib
    table = Table(
        title="floors [ms], calculated from data sheets, not measured: no program plans faster",
        caption=f"weights: {weights['fp16']:.1f} GiB in bfloat16, {weights[BOTH]:.1f} GiB in W4A4 with 8-bit towers",
    )
    table.add_column("device", no_wrap=True)
    for heading in ("FP16", "W8A8", "W4A4", "both", "LLM: FP16", "W4A4", "both", "prune up to"):
        table.add_column(heading, justify="right")
    for row in rows:
        total, language = row.total_ms, row.language_ms
        numbers = [total[name] for name in ("fp16", "w8a8", "w4a4", BOTH)]
        numbers += [language[name] for name in ("fp16", "w4a4", BOTH)]
        pays = f"{row.pruning_pays_to:g}" if row.pruning_pays_to else "never"
        table.add_row(row.device.name, *(f"{number:.1f}" for number in numbers), pays)
    return table


def deployment_figures(rows: list[Deployment]) -> dict[str, float]:
    """Return the floors and the memory of the weights by the names under which they are quoted."""
    figures = {}
    for row in rows:
        name = row.device.name
        for policy in ("fp16", "w8a8", "w4a4", BOTH):
            figures[f"calculated_ms_{policy}_{name}"] = row.total_ms[policy]
            figures[f"calculated_llm_ms_{policy}_{name}"] = row.language_ms[policy]
        figures[f"calculated_pruning_pays_to_{name}"] = row.pruning_pays_to
    for policy in ("fp16", "w4a4"):
        figures[f"calculated_weights_gib_{policy}"] = rows[0].weights_gib[policy]
    return figures
