"""A demo on one machine: the policy node drives a simulated arm on a LIBERO table, over ROS 2 topics.

The demo starts the cell and the node as processes, watches them, ends them and reports what happened. The processes use
a ROS domain of their own and do not leave this machine: a demo must never reach a lab's arm.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.config.files import named_file
from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.reasons import ReasonCounter
from sqap_vla_ros.simulation.processes import LoggedProcess

ROBOT = "libero_panda"
_POLL_S = 0.2
_START_LIMIT_S = 180.0  # for the scene and the policy to load, on a slow machine
# Settings of a user's shell that reach beyond this machine, whatever the discovery range.
_REACH_OTHER_MACHINES = (
    "ROS_STATIC_PEERS",
    "ROS_DISCOVERY_SERVER",
    "ROS_LOCALHOST_ONLY",  # overrides the discovery range
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "CYCLONEDDS_URI",
)


class DemoError(RuntimeError):
    """The demo could not be played; the message says why and shows the end of the log."""


@dataclass(frozen=True)
class Demo:
    """Drive a simulated Panda on a LIBERO table with the policy node, over real ROS 2 topics."""

    suite: str = "libero_90"
    """LIBERO suite."""
    task: int = 0
    """Index of the task in its suite; the default is to close a drawer."""
    initial_state: int = 0
    """Index of the task's official initial state."""
    seed: int = 0
    """Seed of what the initial state leaves open: fixtures shift by millimetres."""
    seconds: float = 20.0
    """Simulated time after which the episode ends, if the task is not done before."""
    policy: str = "sqap"
    """Name of a file in config/policies, or a path to one."""
    checkpoint: str = ""
    """CogACT run directory, .pt file or Hub id; by default the small one that comes with the package,
    compressed unless the policy needs float weights."""
    out: Path = Path("out/demo")
    """Directory for the bag, the video and the logs; those of an earlier demo are replaced."""
    real_time_factor: float = 1.0
    """Simulated seconds per wall second, at most; 0: as fast as possible."""

    def run(self, console: Console) -> None:
        """Play one episode and print what happened.

        Raises:
            DemoError: A process died, or no command reached the arm.
        """
        report = self.play(console)
        self._write_video(console)
        console.print(_summary(report, last_status(self.bag), self))

    def play(self, console: Console) -> dict[str, Any]:
        """Play one episode.

        Returns:
            The episode's figures; the recording is in `bag`.

        Raises:
            DemoError: A process died, or no command reached the arm.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        for earlier in (self.bag, self.video, self.report, *self.out.glob("*.log")):
            shutil.rmtree(earlier) if earlier.is_dir() else earlier.unlink(missing_ok=True)
        needs_float = read_policy(self.policy).weights == "float"
        checkpoint = self.checkpoint or ("libero_small" if needs_float else "libero_small_w4a4")
        environment = _environment()
        with (
            LoggedProcess(
                "sqap_vla_ros.simulation.main", self._cell_arguments(), self.out / "cell.log", environment
            ) as cell,
            LoggedProcess(
                "sqap_vla_ros.ros.main", self._node_arguments(checkpoint), self.out / "policy.log", environment
            ) as node,
        ):
            self._watch(cell, node, console)
        report: dict[str, Any] = json.loads(self.report.read_text(encoding="utf-8"))
        if not report["commands"]:
            raise DemoError(f"no command reached the arm; the policy node's last lines:\n{node.last_lines()}")
        return report

    @property
    def bag(self) -> Path:
        """The recording of the episode."""
        return self.out / "bag"

    @property
    def video(self) -> Path:
        """The video of the episode."""
        return self.out / "demo.mp4"

    @property
    def report(self) -> Path:
        """The episode's figures, as JSON."""
        return self.out / "report.json"

    def _cell_arguments(self) -> list[str]:
        return _ros_arguments(
            suite=self.suite,
            task=self.task,
            initial_state=self.initial_state,
            seed=self.seed,
            publish_clock=True,
            real_time_factor=float(self.real_time_factor),
            episode_s=float(self.seconds),
            wait_for_subscriber=True,
            bag=str(self.bag),
            report=str(self.report),
        )

    def _node_arguments(self, checkpoint: str) -> list[str]:
        parameters = _ros_arguments(
            policy=self.policy,
            checkpoint=checkpoint,
            use_sim_time=True,
            autostart=True,
            exit_on_failure=True,
        )
        return [*parameters, "--params-file", str(named_file("robots", ROBOT))]

    def _watch(self, cell: LoggedProcess, node: LoggedProcess, console: Console) -> None:
        """Show progress until the episode is over.

        Raises:
            DemoError: A process ended that should not, or nothing moved for too long.
        """
        deadline_s = time.monotonic() + _START_LIMIT_S
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn()
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("episode", total=self.seconds, state="loading the scene and the policy")
            while cell.returncode is None:
                if node.returncode is not None:
                    raise DemoError(f"the policy node stopped; its last lines:\n{node.last_lines()}")
                if self.report.exists():
                    so_far = json.loads(self.report.read_text(encoding="utf-8"))
                    state = f"{so_far['simulated_s']:.1f} of {self.seconds:g} s, {so_far['commands']} commands"
                    progress.update(bar, completed=so_far["simulated_s"], state=state)
                elif time.monotonic() > deadline_s:
                    raise DemoError(
                        f"nothing moved within {_START_LIMIT_S:g} s; last lines of the cell:\n{cell.last_lines()}\n"
                        f"of the policy node:\n{node.last_lines()}"
                    )
                time.sleep(_POLL_S)
            progress.update(bar, completed=self.seconds)
        if cell.returncode:
            raise DemoError(f"the cell ended with status {cell.returncode}; its last lines:\n{cell.last_lines()}")

    def _write_video(self, console: Console) -> None:
        from sqap_vla_ros.simulation.video import write_video

        with console.status("writing the video"):
            write_video(self.bag, self.video, load_configuration(ROBOT))


def _environment() -> dict[str, str]:
    # 0 is everybody's default, 1 to 50 are those of make and the tests; above 101 ports may be taken.
    own_domain = 51 + os.getpid() % 50
    if str(own_domain) == os.environ.get("ROS_DOMAIN_ID"):
        own_domain = 101
    return {
        **{name: value for name, value in os.environ.items() if name not in _REACH_OTHER_MACHINES},
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(own_domain),
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait would starve the cell
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of the simulator's libraries, above the one line that counts
    }


def _ros_arguments(**parameters: Any) -> list[str]:
    """Parameters as ROS command-line arguments; JSON is YAML, and in it strings stay strings."""
    assignments = ((name, json.dumps(value)) for name, value in parameters.items())
    return ["--ros-args", *(word for name, value in assignments for word in ("-p", f"{name}:={value}"))]


def last_status(bag: Path) -> tuple[Any, ReasonCounter]:
    """The policy node's last status in a bag, None without one, and how often ticks were rejected for each reason."""
    last: Any = None
    reasons = ReasonCounter()
    with Bag(bag) as recording:
        for _, _, status in recording.messages({"/sqap_vla/status"}):
            refused_before = 0 if last is None else last.commands_refused
            if status.commands_refused > refused_before:
                # Several refusals between two statuses count for the last one's reason.
                reasons.add(status.last_refusal, status.commands_refused - refused_before)
            last = status
    return last, reasons


def _summary(report: dict[str, Any], status: tuple[Any, ReasonCounter], demo: Demo) -> Table:
    last, reasons = status
    table = Table("demo", "", title="what happened", show_header=False)
    add: Callable[[str, str], None] = table.add_row
    add("task", report["task"])
    add("success", "yes" if report["success"] else "no")
    add("episode", f"{report['simulated_s']:.1f} s simulated in {report['wall_s']:.1f} s")
    add(
        "control rate",
        f"{report['commands_per_simulated_s']:.1f} commands per simulated second, "
        f"{report['commands_per_wall_s']:.1f} per wall second ({report['commands']} in all)",
    )
    if report["latency_median_ms"] is not None:
        add(
            "image to command",
            f"median {report['latency_median_ms']:.0f} ms, p99 {report['latency_p99_ms']:.0f} ms (wall time)",
        )
    refused = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common().items())
    add("ticks refused", refused or "none")
    if last is not None:
        add("commands clipped", str(last.commands_clipped))
        add("weights", last.weights)
    add("beyond the arm's limits", f"{report['violations']} simulation steps")
    add("video", str(demo.video))
    add("bag", str(demo.bag))
    add("logs", f"{demo.out / 'cell.log'}, {demo.out / 'policy.log'}")
    return table
