"""The learning curve, as JSON and as a picture."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sqap_vla_ros.bags.demonstrations import POINTS
from sqap_vla_ros.core.files import whole_file
from sqap_vla_ros.tools.training.export import write_json
from sqap_vla_ros.tools.training.held_out import HeldOutErrors


@dataclass(frozen=True)
class CurvePoint:
    """A point of the learning curve: what is known at a save.

    Attributes:
        samples: Frames learned from so far.
        seconds: Time spent on it so far.
        learning_rate: Learning rate at that time.
        losses: Unweighted means since the save before, by name.
        held_out: Errors of the averaged weights on the held-out frames.
    """

    samples: int
    seconds: float
    learning_rate: float
    losses: dict[str, float]
    held_out: HeldOutErrors


def write_curve(directory: Path, curve: Sequence[CurvePoint]) -> None:
    """Write `curve.json` and `curve.png` into a run directory."""
    write_json(directory / "curve.json", [asdict(point) for point in curve])
    style: Any = {"marker": ".", "markersize": 3}
    samples = [point.samples / 1000 for point in curve]
    figure = Figure(figsize=(12, 6), layout="constrained")
    (noise, others, ends), (pixels, places, gripper) = figure.subplots(2, 3, sharex=True)
    noise.plot(samples, [point.losses["noise"] for point in curve], label="training", **style)
    noise.plot(samples, [point.held_out.noise for point in curve], label="held out", **style)
    noise.set(title="noise prediction, mean squared error", yscale="log")
    for name in curve[-1].losses:
        if name != "noise":
            others.plot(samples, [point.losses[name] for point in curve], label=name, **style)
    others.set(title="auxiliary losses, training", yscale="log")
    ends.plot(samples, [point.held_out.displacement_mm for point in curve], **style)
    ends.set(title="end of a chunk, error [mm], held out", ylim=(0, None))
    for name in POINTS:
        pixels.plot(samples, [point.held_out.points_px.get(name, math.nan) for point in curve], label=name, **style)
        places.plot(samples, [point.held_out.points_mm.get(name, math.nan) for point in curve], label=name, **style)
    pixels.set(title="points, error [px], held out", ylim=(0, None))
    places.set(title="points, error [mm], held out", ylim=(0, None))
    gripper.plot(samples, [100 * point.held_out.gripper for point in curve], **style)
    gripper.set(title="gripper as demonstrated [%], held out", ylim=(None, 100))
    for axes in (noise, others, pixels, places):
        axes.legend(fontsize="small")
    for axes in (pixels, places, gripper):
        axes.set_xlabel("thousand samples")
    with whole_file(directory / "curve.png") as part:
        figure.savefig(part, dpi=80, format="png")
