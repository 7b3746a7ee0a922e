"""How well inverse kinematics follows a moving target, and how long it takes.

Chunks of 16 reachable tool poses, at most 0.05 m and 0.25 rad apart, along smooth paths of the joints; each chunk
begins where the arm is. A way-point is solved when the tool comes within 1 mm and 0.1 degrees and every joint keeps its
position limits and moves by no more than its velocity allows. Times are processor times, so that other processes do
not count. A cold pose is any reachable pose, tried from the middle of the joints' ranges.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.arms import arms
from benchmarks.results import RESULTS, write_results
from sqap_vla_ros.control.kinematics import Kinematics
from sqap_vla_ros.control.trajectory import JointLimits
from sqap_vla_ros.perception.transforms import vector_from_rotation

POSES, STEP_S = 16, 0.2
LARGEST_STEP_M, LARGEST_STEP_RAD = 0.05, 0.25
SOLVED_M, SOLVED_RAD = 1e-3, np.deg2rad(0.1)
# Of joints whose model says nothing.
VELOCITY = 2.0
# Times that a cold start may go on from what it has.
COLD_ROUNDS = 20


@dataclass(frozen=True)
class Measured:
    """Figures of one arm: shares of solved poses [%], and times of the chunks [ms]."""

    tracking_percent: float
    cold_percent: float
    chunk_ms: np.ndarray


def measure(kinematics: Kinematics, chunks: int, seed: int) -> Measured:
    """Follow chunks and try cold poses, as many of both."""
    rng = np.random.default_rng(seed)
    each = np.ones(len(kinematics.lower))
    limits = JointLimits(
        kinematics.lower, kinematics.upper, np.minimum(VELOCITY, kinematics.velocity), 10 * each, 100 * each
    )
    # Joints without limits turn as far as others do.
    low, high = np.maximum(limits.lower, -np.pi), np.minimum(limits.upper, np.pi)
    solved, chunk_ms = [], []
    while len(chunk_ms) < chunks:
        path = _joint_path(kinematics, rng, low, high, limits.velocity * STEP_S)
        targets = np.array([kinematics.forward(q) for q in path[1:]])
        begin = time.thread_time()
        solution = kinematics.inverse(targets, path[0], limits, STEP_S)
        chunk_ms.append((time.thread_time() - begin) * 1e3)
        moved = np.abs(np.diff(solution.q, axis=0, prepend=path[:1]))
        within = (
            (solution.q >= limits.lower - 1e-9)
            & (solution.q <= limits.upper + 1e-9)
            & (moved <= limits.velocity * STEP_S + 1e-9)
        ).all(axis=1)
        solved += list(within & (solution.position_error_m <= SOLVED_M) & (solution.rotation_error_rad <= SOLVED_RAD))
    cold = []
    for _ in range(chunks):
        target = kinematics.forward(rng.uniform(low, high))
        rounds = kinematics.inverse(np.repeat(target[None], COLD_ROUNDS, axis=0), (low + high) / 2, limits, STEP_S * 10)
        cold.append(rounds.position_error_m[-1] <= SOLVED_M and rounds.rotation_error_rad[-1] <= SOLVED_RAD)
    return Measured(100 * float(np.mean(solved)), 100 * float(np.mean(cold)), np.array(chunk_ms))


def _joint_path(
    kinematics: Kinematics, rng: np.random.Generator, low: np.ndarray, high: np.ndarray, travel: np.ndarray
) -> np.ndarray:
    """A smooth path of the joints, float64 (POSES + 1, joints), whose tool poses keep their distance."""
    start = rng.uniform(low + 0.15 * (high - low), high - 0.15 * (high - low))
    velocity, change = rng.normal(size=(2, len(start)))
    steps = velocity + np.linspace(-1, 1, POSES)[:, None] * change
    scale = float(np.min(0.5 * travel / np.abs(steps).max(axis=0)))
    while True:
        path = np.clip(np.vstack([start, start + np.cumsum(scale * steps, axis=0)]), low, high)
        poses = np.array([kinematics.forward(q) for q in path])
        distance = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).max()
        turn = max(
            np.linalg.norm(vector_from_rotation(then[:3, :3] @ now[:3, :3].T))
            for now, then in zip(poses[:-1], poses[1:], strict=True)
        )
        excess = max(distance / LARGEST_STEP_M, turn / LARGEST_STEP_RAD)
        if excess <= 1:
            return path
        scale /= 1.02 * excess


def main(chunks: int = 100, out: Path = RESULTS) -> None:
    """Measure all arms and write `kinematics.json`.

    Example: python -m benchmarks.kinematics --chunks 5 --out out/benchmarks

    Args:
        chunks: Chunks per arm, and cold poses per arm.
        out: Directory of the result file; any other than the default leaves the published results alone.
    """
    models = arms()
    measured = {
        name: measure(model, chunks, seed)
        for seed, (name, model) in enumerate(track(models.items(), description="arms", console=Console(stderr=True)))
    }
    table = Table("arm", "way-points solved [%]", "cold poses solved [%]", "ms per way-point", "ms per chunk, p99")
    for name, of_arm in measured.items():
        table.add_row(
            name,
            f"{of_arm.tracking_percent:.2f}",
            f"{of_arm.cold_percent:.1f}",
            f"{np.median(of_arm.chunk_ms) / POSES:.3f}",
            f"{np.percentile(of_arm.chunk_ms, 99):.2f}",
        )
    Console().print(table)
    chunk_ms = np.concatenate([of_arm.chunk_ms for of_arm in measured.values()])
    figures = {
        "tracking_solved_percent": float(np.mean([of_arm.tracking_percent for of_arm in measured.values()])),
        "tracking_solved_percent_worst": min(of_arm.tracking_percent for of_arm in measured.values()),
        "ms_per_waypoint_median": float(np.median(chunk_ms)) / POSES,
        "ms_per_chunk_p99": float(np.percentile(chunk_ms, 99)),
        "cold_solved_percent": float(np.mean([of_arm.cold_percent for of_arm in measured.values()])),
        "robots": float(len(measured)),
    }
    cases = {
        name: {"tracking_solved_percent": of_arm.tracking_percent, "cold_solved_percent": of_arm.cold_percent}
        for name, of_arm in measured.items()
    }
    write_results("kinematics", figures, out, cases=cases)


if __name__ == "__main__":
    tyro.cli(main)
