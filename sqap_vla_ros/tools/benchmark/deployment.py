"""What to expect of a GPU that nobody measured: floors from its data sheet, and where pruning gains nothing there."""

from dataclasses import dataclass
from itertools import pairwise

from rich.table import Table

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.tools.benchmark.roofline import DATA_SHEETS, Device, Format, floors_s, plan_products, weight_bytes

RATIOS = (0.3, 0.4, 0.5, 0.6)
FORMATS = {
    "fp16": Format(),
    "w4a16": Format(weight_bits=4),
    "w8a8": Format(8, 8, 8),
    "w4a4": Format(4, 4, 8),
    **{f"sqap-{ratio:g}": Format(4, 4, 8, kept=SqapConfig(ratio=ratio).keep) for ratio in RATIOS},
}
SQAP = "sqap-0.4"
TEXT_TOKENS = 24
# A gain below this is none: the choice of tokens itself and the gather take time that a floor does not count.
_LEAST_GAIN = 1.05


@dataclass(frozen=True)
class Deployment:
    """Floors on one device, milliseconds.

    Attributes:
        device: The device.
        total_ms: Whole plan, by policy.
        language_ms: The language model, by policy.
        weights_gib: Memory of the weights, by policy.
    """

    device: Device
    total_ms: dict[str, float]
    language_ms: dict[str, float]
    weights_gib: dict[str, float]

    @property
    def pruning_pays_to(self) -> float:
        """The largest ratio that makes the quantised language model faster than the one before; 0: none does.

        From there on the weights must be read, however few tokens there are.
        """
        policies = ["w4a4", *(f"sqap-{ratio:g}" for ratio in RATIOS)]
        times = [self.language_ms[policy] for policy in policies]
        pays = [
            ratio
            for ratio, (before, after) in zip(RATIOS, pairwise(times), strict=True)
            if before >= _LEAST_GAIN * after
        ]
        return max(pays, default=0.0)


def deployments(size: str = "base") -> list[Deployment]:
    """All devices of which there is a data sheet."""
    rows = []
    for device in DATA_SHEETS:
        floors = {name: floors_s(plan_products(form, TEXT_TOKENS, size=size), device) for name, form in FORMATS.items()}
        rows.append(
            Deployment(
                device,
                {name: 1e3 * sum(stages.values()) for name, stages in floors.items()},
                {name: 1e3 * stages["language"] for name, stages in floors.items()},
                {name: weight_bytes(form, size) / 2**30 for name, form in FORMATS.items()},
            )
        )
    return rows


def deployment_table(rows: list[Deployment]) -> Table:
    """For a console."""
    weights = rows[0].weights_gib
    table = Table(
        title="calculated from data sheets, not measured: no program plans in fewer milliseconds",
        caption=f"weights: {weights['fp16']:.1f} GiB in bfloat16, {weights[SQAP]:.1f} GiB with SQAP and 8-bit towers",
    )
    table.add_column("device", no_wrap=True)
    for heading in ("FP16", "W8A8", "W4A4", "SQAP 0.4", "LLM: FP16", "W4A4", "SQAP 0.4", "prune up to"):
        table.add_column(heading, justify="right")
    for row in rows:
        total, language = row.total_ms, row.language_ms
        numbers = [total[name] for name in ("fp16", "w8a8", "w4a4", SQAP)]
        numbers += [language[name] for name in ("fp16", "w4a4", SQAP)]
        pays = f"{row.pruning_pays_to:g}" if row.pruning_pays_to else "never"
        table.add_row(row.device.name, *(f"{number:.1f}" for number in numbers), pays)
    return table


def deployment_figures(rows: list[Deployment]) -> dict[str, float]:
    """The same by name, and the memory of the weights."""
    figures = {}
    for row in rows:
        name = row.device.name
        for policy in ("fp16", "w8a8", "w4a4", SQAP):
            figures[f"calculated_ms_{policy}_{name}"] = row.total_ms[policy]
            figures[f"calculated_llm_ms_{policy}_{name}"] = row.language_ms[policy]
        figures[f"calculated_pruning_pays_to_{name}"] = row.pruning_pays_to
    for policy in ("fp16", "w4a4"):
        figures[f"calculated_weights_gib_{policy}"] = rows[0].weights_gib[policy]
    return figures
