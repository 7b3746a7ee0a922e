"""One episode of an evaluation: which one it is, and its result.

Episodes are paired: number i of a task starts from the same initial state with the same fixtures and the same
disturbances under every policy. Its initial state is one of LIBERO's official ones, none of which is in the
demonstrations, and its seeds begin where those of the demonstrations' scenes are not expected to reach.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.control.jerk import mean_jerk
from sqap_vla_ros.core.reasons import ReasonCounter
from sqap_vla_ros.simulation.loaded_scene import scene_of
from sqap_vla_ros.simulation.tasks import Task
from sqap_vla_ros.tools.evaluation.variants import DISTURBANCES, Condition, Variant

OFFICIAL_STATES = 50
FIRST_SEED = 1000
STATE_PERIOD_S = 0.05  # between the states of a trace: 20 Hz

EpisodeKey = tuple[str, str, str, int]
"""Task, policy with recipe, disturbance, number."""


@dataclass(frozen=True)
class EpisodeJob:
    """An episode to be played.

    Attributes:
        task: The task.
        variant: The policy that plays.
        condition: What disturbs it.
        number: Number of the episode in its task, which decides the initial state and all seeds.
        configuration: Robot, policy file, checkpoint (compressed already), tokenizer and device.
        weights_sha256: Hash of that checkpoint.
        plan_period_s: Time from plan to plan (s).
    """

    task: Task
    variant: Variant
    condition: Condition
    number: int
    configuration: Configuration
    weights_sha256: str
    plan_period_s: float

    @property
    def initial_state(self) -> int:
        """The index of LIBERO's official initial state."""
        return self.number % OFFICIAL_STATES

    @property
    def scene_seed(self) -> int:
        """The seed of what the initial state leaves open: where the fixtures stand."""
        return FIRST_SEED + self.number

    @property
    def key(self) -> EpisodeKey:
        """The key that identifies this episode and its result."""
        return self.task.name, str(self.variant), str(self.condition), self.number


@dataclass(frozen=True)
class EpisodeResult:
    """The result of an episode; one line of the results file.

    Attributes:
        task: Name of the task.
        variant: Policy and recipe, as the user named them.
        policy_id: Name of the policy and digits of its checkpoint's hash.
        disturbance: The disturbance, as the user named it; empty: none.
        episode: Number of the episode in its task.
        success: Whether the task was done, by LIBERO's own predicate.
        seconds: Simulated time (s).
        plans: Number of plans.
        refusals: How often plans led to no command, by reason.
        violations: Simulation steps and joints in which the arm was asked for more than its limits.
        jerk_rad_s3: Mean norm of the joints' third difference over time (rad/s^3).
        path_m: Length of the tool's path (m).
        planning_p50_s: Median wall time of a plan (s); 0 without a plan.
    """

    task: str
    variant: str
    policy_id: str
    disturbance: str
    episode: int
    success: bool
    seconds: float
    plans: int
    refusals: dict[str, int]
    violations: int
    jerk_rad_s3: float
    path_m: float
    planning_p50_s: float

    @property
    def key(self) -> EpisodeKey:
        """The key that identifies the episode."""
        return self.task, self.variant, self.disturbance, self.episode


def play(job: EpisodeJob, observer: Callable[[Any, Any], None] | None = None) -> EpisodeResult:
    """Play an episode in this process, on simulated time.

    The scene of the last task and the policy of the last episode stay loaded for the next one.

    Args:
        job: The episode.
        observer: Watches, as for a video; see `simulation.episode.Observer`.

    Raises:
        ConfigurationError: The checkpoint is no longer the one that the evaluation began with.
    """
    # Playing needs mujoco and torch; counting episodes does not.
    from sqap_vla_ros.simulation.episode import run_policy_episode

    scene = scene_of(job.task)
    policy = _policy(job.configuration)
    if policy.metadata.checkpoint_sha256 != job.weights_sha256:
        raise ConfigurationError(
            f"{job.configuration.checkpoint}: changed since the evaluation began; evaluate a copy that nobody writes to"
        )
    scene.reset(job.initial_state, job.scene_seed)
    trace = run_policy_episode(
        scene, policy, job.configuration, episode_settings(job), seed=job.number, observer=observer
    )
    refusals = ReasonCounter()
    for reason, count in trace.rejections.items():
        refusals.add(reason, count)
    return EpisodeResult(
        task=job.task.name,
        variant=str(job.variant),
        policy_id=policy.metadata.policy_id,
        disturbance=str(job.condition),
        episode=job.number,
        success=trace.success,
        seconds=trace.simulated_s,
        plans=trace.plans,
        refusals=refusals.most_common(),
        violations=trace.violations,
        jerk_rad_s3=mean_jerk(trace.joint_positions, STATE_PERIOD_S),
        path_m=path_length(trace.tool_poses),
        planning_p50_s=float(np.median(trace.planning_s)) if trace.planning_s else 0.0,
    )


def episode_settings(job: EpisodeJob) -> Any:
    """The `EpisodeSettings` of an episode: its task's time limit, and the disturbance in its place."""
    from sqap_vla_ros.simulation.closed_loop import Disturbance
    from sqap_vla_ros.simulation.episode import EpisodeSettings

    condition = job.condition
    field = DISTURBANCES[condition.kind][0] if condition.kind else ""
    return EpisodeSettings(
        limit_s=job.task.limit_s,
        plan_period_s=job.plan_period_s,
        delay_s=condition.size if condition.kind == "delay" else 0.0,
        disturbance=Disturbance(**{field: condition.size}) if field else Disturbance(),
    )


def path_length(tool_poses: NDArray[np.float64]) -> float:
    """Length of the polyline through tool poses, float64 (N, 4, 4), in metres."""
    return float(np.linalg.norm(np.diff(tool_poses[:, :3, 3], axis=0), axis=1).sum())


@lru_cache(maxsize=1)
def _policy(configuration: Configuration) -> Any:
    from sqap_vla_ros.policies.registry import load_policy

    return load_policy(configuration, lambda _: None)
