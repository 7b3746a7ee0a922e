"""How smoothly an arm goes from chunk to chunk, and how well it keeps to its path, for each way of blending.

The simulated Panda's limits and a controller by the rules of ros2_control, sampled at 500 Hz. Every inference takes
50 to 300 ms of simulated time. The policy wants the tool on a moving point, but changes its mind: each chunk is drawn
from a normal distribution around the way there, with deviations that add up along the chunk. The project's own
diffusion sampler draws it, for which the best prediction of the noise is known in this case; so real-time chunking
holds what is committed as it does with a network. Accelerations and jerks are shares of their limits.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.arms import ROBOSUITE, robosuite_arm
from benchmarks.results import RESULTS, plot_directory, write_results
from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.control.commander import Commander
from sqap_vla_ros.control.commands import Command, JointState, PreparedCommand
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.noise import philox
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.core.types import Array
from sqap_vla_ros.perception.transforms import rotation_from_vector, transform_from, vector_from_rotation
from sqap_vla_ros.policies.cogact.continuation import held_actions
from sqap_vla_ros.policies.cogact.diffusion import Ddim, ddim_schedule, sample
from sqap_vla_ros.ros.conversions import trajectory_message
from sqap_vla_ros.simulation.joint_trajectory_controller import JointTrajectoryController, arm_limits
from sqap_vla_ros.vlm.statistics import ActionStatistics, denormalise, normalise

BLENDINGS = ("none", "ensemble", "temporal", "real_time")
DELAY_S = (0.05, 0.3)
SAMPLE_NS = 2_000_000
HOME = np.array([0.0, 0.196, 0.0, -2.3, 0.0, 2.5, 0.785])
BEGIN_NS = 10**12
HORIZON, TIME_STEP_S, DDIM = 16, 0.05, Ddim(10)
# One action covers at most so much [m, rad] in the policy's data.
LARGEST = np.array([0.02] * 3 + [0.05] * 3)
STATISTICS = ActionStatistics("", np.append(-LARGEST, 0.0), np.append(LARGEST, 1.0), np.array([True] * 6 + [False]))
# Deviation of each normalised action, and over how many steps deviations are alike.
DEVIATION, ALIKE_STEPS = 0.05, 6.0
# The policy makes up for its distance from the path with this time constant [s].
RETURN_S = 0.4


def wanted(time_s: float, T_start: Array) -> Array:
    """The moving point, float64 (4, 4): loops of +-8 cm, up to 0.15 m/s, turning by +-0.2 rad."""
    phase = 2 * math.pi * time_s / 6
    offset = np.array([0.04 * math.sin(2 * phase), 0.08 * math.sin(phase), 0.03 * (1 - math.cos(2 * phase))])
    turn = rotation_from_vector((0, 0, 0.2 * math.sin(phase)))
    return transform_from(T_start[:3, 3] + offset, turn @ T_start[:3, :3])


class _NormalHead:
    """The noise that is to be expected in a sample, where chunks are normally distributed around a mean.

    Has what the samplers ask of an action head. Deviations of each number are alike in neighbouring steps.
    """

    def __init__(self, mean: Array) -> None:
        steps = np.arange(HORIZON)
        covariance = DEVIATION**2 * np.exp(-0.5 * ((steps[:, None] - steps) / ALIKE_STEPS) ** 2)
        self._covariance = torch.from_numpy(covariance)
        self._mean = torch.from_numpy(mean)[None]
        schedule = ddim_schedule(DDIM.steps)
        self._signal = dict(zip(schedule.timesteps.tolist(), schedule.alphas_cumprod.tolist(), strict=True))
        self.run_blocks = None

    def embed_steps(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps

    def embed_condition(self, z: torch.Tensor) -> torch.Tensor:
        return z

    def predict(self, x: torch.Tensor, step: torch.Tensor, condition: torch.Tensor, blocks: Any) -> torch.Tensor:
        signal = self._signal[int(step)]
        noise_variance = torch.eye(HORIZON, dtype=torch.float64) * (1 - signal)
        deviation = x.double() - math.sqrt(signal) * self._mean
        expected = torch.linalg.solve(signal * self._covariance + noise_variance, deviation)
        return (math.sqrt(1 - signal) * expected).float()


def plan(stamp_ns: int, T_base_tool: Array, T_start: Array, committed: CommittedActions | None) -> ActionChunk:
    """A chunk that leads to the moving point and along with it."""
    time_s = (stamp_ns - BEGIN_NS) * 1e-9
    path = np.array([wanted(time_s + k * TIME_STEP_S, T_start) for k in range(HORIZON + 1)])
    aside_m = T_base_tool[:3, 3] - path[0, :3, 3]
    aside_rad = vector_from_rotation(T_base_tool[:3, :3] @ path[0, :3, :3].T)
    left = np.exp(-TIME_STEP_S / RETURN_S * np.arange(HORIZON + 1))[:, None]
    actions = np.zeros((HORIZON, 7))
    actions[:, :3] = np.diff(path[:, :3, 3] + left * aside_m, axis=0)
    turns = [then[:3, :3] @ now[:3, :3].T for now, then in zip(path[:-1], path[1:], strict=True)]
    actions[:, 3:6] = np.array([vector_from_rotation(turn) for turn in turns]) + np.diff(left * aside_rad, axis=0)
    noise = torch.from_numpy(philox(stamp_ns).standard_normal((1, HORIZON, 7), np.float32))
    head: Any = _NormalHead(normalise(actions, STATISTICS))
    held = held_actions(committed, STATISTICS, HORIZON) if committed else None
    drawn = sample(DDIM, head, noise, torch.zeros(1, 1, 1), 1.0, held)[0].numpy()
    steps = committed.steps if committed else 0
    actions = denormalise(np.clip(drawn, -1, 1), STATISTICS)
    return ActionChunk(stamp_ns, actions, TIME_STEP_S, T_base_tool, "", stamp_ns, keep_all(), committed_steps=steps)


@dataclass(frozen=True)
class Run:
    """What the controller wanted, every 2 ms.

    Attributes:
        accelerations: float64 (samples, 7), as shares of their limits.
        jerks: float64 (samples - 1, 7), likewise.
        tool_m: float64 (samples, 3).
        wanted_m: float64 (samples, 3), the moving point.
        commands: Chunks that became commands.
        refused: Chunks that did not.
        violations: What the controller found wrong with them.
    """

    accelerations: Array
    jerks: Array
    tool_m: Array
    wanted_m: Array
    commands: int
    refused: int
    violations: int

    def figures(self) -> dict[str, float]:
        """Largest shares, and RMS after the first two seconds."""
        settled = slice(round(2e9 / SAMPLE_NS), None)
        tool_jerk = np.diff(self.tool_m[settled], 3, axis=0) / (SAMPLE_NS * 1e-9) ** 3
        error_m = np.linalg.norm(self.tool_m - self.wanted_m, axis=1)[settled]
        return {
            "max_jerk": float(np.abs(self.jerks).max()),
            "max_acceleration": float(np.abs(self.accelerations).max()),
            "tracking_rms_m": float(np.sqrt(np.mean(error_m**2))),
            "tool_jerk_rms_m_s3": float(np.sqrt(np.mean(np.sum(tool_jerk**2, axis=1)))),
        }


def run(blending: str, seconds: float, kinematics: Kinematics) -> Run:
    """One arm, one policy, one way of blending."""
    settings = load_configuration(
        "libero_panda",
        **{
            "frames.base": "base",
            "frames.tool": "right_hand",
            "command.joints": ROBOSUITE["panda"],
            "command.blending": blending,
        },
    )
    joints, limits = (
        settings.command.joints,
        arm_limits(np.stack([kinematics.lower, kinematics.upper], axis=1), settings.limits),
    )
    commander, controller = Commander(settings, kinematics), JointTrajectoryController(joints, HOME, limits)
    T_start, now_ns, state = kinematics.forward(HOME), BEGIN_NS, controller.desired(BEGIN_NS * 1e-9)
    delays = np.random.default_rng(0)
    accelerations, tool_m, wanted_m, answers = [], [], [], []

    def send(command: Command) -> bool:
        message = trajectory_message(command.trajectory, joints, command.start_ns, settings.frames.base)
        if rejection := controller.accept(message, now_ns * 1e-9):
            raise SystemExit(f"the controller rejects a command: {rejection}")
        return True

    while now_ns < BEGIN_NS + seconds * 1e9:
        T_base_tool = kinematics.forward(state[0])
        chunk = plan(now_ns, T_base_tool, T_start, commander.continuation(now_ns, T_base_tool))
        ready_ns = now_ns + round(delays.uniform(*DELAY_S) * 1e9)
        while now_ns < ready_ns:
            now_ns += SAMPLE_NS
            state = controller.desired(now_ns * 1e-9)
            accelerations.append(state[2])
            tool_m.append(kinematics.forward(state[0])[:3, 3])
            wanted_m.append(wanted((now_ns - BEGIN_NS) * 1e-9, T_start)[:3, 3])
        answer = commander.prepare(chunk, now_ns, JointState(state[0], state[1], now_ns))
        answers.append(isinstance(answer, PreparedCommand))
        if isinstance(answer, PreparedCommand):
            answer.publish_through(send, now_ns)
    jerks = np.diff(accelerations, axis=0) / (SAMPLE_NS * 1e-9)
    return Run(
        np.array(accelerations) / limits.acceleration,
        jerks / limits.jerk,
        np.array(tool_m),
        np.array(wanted_m),
        sum(answers),
        len(answers) - sum(answers),
        len(controller.violations),
    )


def draw(runs: dict[str, Run]) -> Figure:
    """Path, acceleration and jerk over a few seconds, one column per way of blending."""
    figure = Figure(figsize=(8.3, 5.6), layout="constrained")
    rows = figure.subplots(3, len(runs), sharex=True, sharey="row")
    shown = slice(round(4e9 / SAMPLE_NS), round(10e9 / SAMPLE_NS))
    for column, (name, of_run) in zip(rows.T, runs.items(), strict=True):
        times_s = np.arange(len(of_run.tool_m))[shown] * SAMPLE_NS * 1e-9
        figures = of_run.figures()
        for axis, colour in ((0, "tab:blue"), (1, "tab:orange"), (2, "tab:green")):
            start = of_run.wanted_m[0, axis]
            column[0].plot(times_s, 100 * (of_run.wanted_m[shown, axis] - start), "--", color="0.6", linewidth=1)
            column[0].plot(times_s, 100 * (of_run.tool_m[shown, axis] - start), color=colour, label="xyz"[axis])
        column[1].plot(times_s, 100 * np.abs(of_run.accelerations[shown]).max(axis=1), color="tab:red")
        column[2].plot(times_s, 100 * np.abs(of_run.jerks[shown]).max(axis=1), color="tab:purple")
        column[0].set_title(
            f"{name}\n{1e3 * figures['tracking_rms_m']:.1f} mm, {figures['tool_jerk_rms_m_s3']:.1f} m/s$^3$ (RMS)",
            fontsize=9,
        )
        column[2].set_xlabel("time [s]")
        for axes in column[1:]:
            axes.axhline(100, color="0.3", linestyle=":")
    labels = ("tool [cm]", "joint acceleration [% of limit]", "joint jerk [% of limit]")
    for axes, text in zip(rows[:, 0], labels, strict=True):
        axes.set_ylabel(text)
    figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def main(seconds: float = 40.0, out: Path = RESULTS) -> None:
    """Run all blending methods, and write `continuity.json` and `continuity.png`.

    Example: python -m benchmarks.continuity --seconds 4 --out out/benchmarks

    Args:
        seconds: Simulated time of each [s].
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    torch.set_num_threads(1)
    kinematics, console = robosuite_arm("panda"), Console(stderr=True)
    runs = {name: run(name, seconds, kinematics) for name in track(BLENDINGS, description="runs", console=console)}
    names = list(next(iter(runs.values())).figures())
    table = Table("blending", *names, "commands", "refused", "violations")
    for name, of_run in runs.items():
        values = (f"{value:.4g}" for value in of_run.figures().values())
        table.add_row(name, *values, *(str(n) for n in (of_run.commands, of_run.refused, of_run.violations)))
    Console().print(table)
    figures = {f"{figure}_{name}": value for name, of in runs.items() for figure, value in of.figures().items()}
    counts = {
        name: {"commands": of.commands, "refused": of.refused, "violations": of.violations} for name, of in runs.items()
    }
    write_results("continuity", figures, out, counts=counts)
    draw(runs).savefig(plot_directory(out) / "continuity.png", dpi=200)


if __name__ == "__main__":
    tyro.cli(main)
