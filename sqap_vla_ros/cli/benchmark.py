"""Speed of a device: bench."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Bench:
    """Time every policy on a CogACT of full size.

    The weights are random. Every time is compared with the lowest that the device allows. On a GPU a plan is one CUDA
    graph; on a CPU the same code runs with three blocks of each kind. Writes bench.json and bench.png. Rows that an
    earlier run measured with the same settings stay, unless they are measured again.

    Example:
        sqap-vla bench --rows fp16_graph both
    """

    out: Path = Path("out/bench")
    """Directory for the results."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Device that is timed; auto: a GPU if there is one."""
    size: Literal["small", "base", "large"] = "base"
    """Size of the action head: CogACT-Small, -Base or -Large."""
    repeats: int | None = None
    """Number of plans per policy that are timed; default: 100 on a GPU, 5 on a CPU."""
    rows: tuple[str, ...] = ()
    """Names of policies as in the results (both, fp16_graph, ...); default: all."""
    minutes: float = 7.0
    """Time after which no further policy is begun [min]; what was measured until then is written. 0: no limit."""
    calculated: bool = False
    """Measure nothing; print the lowest times on known GPUs, calculated from their data sheets."""

    def run(self, console: "Console") -> None:
        """Measure, or calculate."""
        from sqap_vla_ros.tools.benchmark.deployment import deployment_table, deployments

        table = deployment_table(deployments(self.size))
        if self.calculated:
            console.print(table)
            return
        from sqap_vla_ros.config.files import ConfigurationError
        from sqap_vla_ros.tools.benchmark.report import result_table
        from sqap_vla_ros.tools.benchmark.results import Settings
        from sqap_vla_ros.tools.benchmark.rows import ROWS
        from sqap_vla_ros.tools.benchmark.run import Bench as Measurement
        from sqap_vla_ros.vlm.runtime.device import choose_device

        if unknown := [name for name in self.rows if name not in ROWS]:
            raise ConfigurationError(f"--rows {unknown[0]}: there is no such policy; there are {', '.join(ROWS)}")
        device = choose_device(self.device)
        repeats = self.repeats if self.repeats is not None else 100 if device == "cuda" else 5
        if repeats < 1:
            raise ConfigurationError(f"--repeats {repeats}: expected at least 1")
        budget_s = 60 * self.minutes if self.minutes else None
        settings = Settings(device, self.size, repeats, rows=self.rows, budget_s=budget_s)
        begun_s = time.monotonic()
        content = Measurement(settings, self.out, lambda words: console.print(words, highlight=False)).run()
        if content["left"]:
            left_s = None if budget_s is None else budget_s - (time.monotonic() - begun_s)
            raise SystemExit(self._go_on(content["left"], device, repeats, left_s))
        console.print(result_table(content))
        for name, words in (content["failed"] | content["skipped"]).items():
            console.print(f"{name}: {words}", style="yellow", markup=False)
        console.print(table)
        console.print(f"written to {self.out}", soft_wrap=True)
        if content["failed"]:
            raise SystemExit(1)

    def _go_on(self, rows: list[str], device: str, repeats: int, left_s: float | None) -> int:
        """Measure the remaining rows in a process of its own, and print everything; returns its exit code."""
        minutes = "0" if left_s is None else f"{max(left_s / 60, 1e-9):g}"
        command = [sys.executable, "-m", "sqap_vla_ros", "bench", "--device", device, "--size", self.size]
        command += ["--out", str(self.out), "--repeats", str(repeats), "--minutes", minutes, "--rows", *rows]
        return subprocess.run(command).returncode
