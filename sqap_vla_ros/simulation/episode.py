"""The one loop of an episode in one process: a planner drives the simulated arm until the task is done or time is up.

The loop runs at the images' rate, 20 Hz. At each step the planner may give a chunk; its command is sent after the
delay that a real machine would need to plan.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.policy import Policy
from sqap_vla_ros.simulation.closed_loop import ClosedLoop, Disturbance
from sqap_vla_ros.simulation.libero import LiberoScene

STEP_NS = 50_000_000  # 20 Hz, LIBERO's control rate


class Planner(Protocol):
    """What decides where the arm goes: a policy, or an expert that knows the scene."""

    def plan(self, loop: ClosedLoop) -> ActionChunk | None:
        """A chunk planned from the present state; None where the arm continues with the last one.

        Asked at every step at which no command is waiting for its delay to pass.
        """


Observer = Callable[[ClosedLoop, ActionChunk | None], None]
"""Called at every step, before a command is sent, with the chunk that was planned in this step, if any."""


@dataclass(frozen=True)
class EpisodeTrace:
    """What happened in an episode of N steps; states are those at the beginning of each step.

    Attributes:
        success: Whether the task was done at the end, by LIBERO's own predicate.
        simulated_s: Simulated time that the episode took (s).
        tool_poses: float64 (N, 4, 4), T_base_tool [m].
        joint_positions: float64 (N, 7) [rad].
        gripper: float64 (N,), the fingers' commanded position [m].
        plans: How many chunks were planned.
        rejections: How often chunks led to no command, by reason.
        planning_s: Wall time of each plan (s).
        violations: Simulation steps and joints in which the arm was asked for more than its limits.
    """

    success: bool
    simulated_s: float
    tool_poses: NDArray[np.float64]
    joint_positions: NDArray[np.float64]
    gripper: NDArray[np.float64]
    plans: int
    rejections: Counter[str]
    planning_s: tuple[float, ...]
    violations: int


def run_episode(
    loop: ClosedLoop,
    planner: Planner,
    *,
    limit_s: float,
    delay_s: float = 0.0,
    steps_at_goal: int = 1,
    observer: Observer | None = None,
) -> EpisodeTrace:
    """Run an episode from the scene's present state.

    At most one plan is under way: with a delay longer than a planner's period, plans follow each other as the delay
    allows.

    Args:
        loop: The arm behind observation and control.
        planner: What drives it.
        limit_s: Simulated time after which the episode ends (s).
        delay_s: Time from an image to the command that follows from it (s).
        steps_at_goal: The episode also ends once the task was done at the end of so many steps.
        observer: Watches; it does not change the episode.
    """
    begin_ns = now_ns = loop.now_ns
    pending: tuple[int, ActionChunk] | None = None  # when its command is due
    poses, joints, gripper = [], [], []
    planning_s: list[float] = []
    rejections: Counter[str] = Counter()
    success, left = False, steps_at_goal

    def send(chunk: ActionChunk) -> None:
        rejection = loop.command(chunk)
        if rejection is not None:
            rejections[rejection.cause] += 1

    while left and now_ns - begin_ns < limit_s * 1e9:
        poses.append(loop.scene.T_base_tool)
        joints.append(loop.scene.joint_positions.copy())
        gripper.append(loop.finger_m)
        if pending is not None and pending[0] <= now_ns:
            send(pending[1])
            pending = None
        chunk = planner.plan(loop) if pending is None else None
        if chunk is not None:
            planning_s.append(sum(chunk.timings_s.values()))
            pending = now_ns + round(delay_s * 1e9), chunk
        if observer is not None:
            observer(loop, chunk)
        now_ns += STEP_NS
        if pending is not None and pending[0] < now_ns:
            loop.advance(pending[0])
            send(pending[1])
            pending = None
        loop.advance(now_ns)
        success = loop.scene.success()
        left -= success
    return EpisodeTrace(
        success=success,
        simulated_s=(now_ns - begin_ns) * 1e-9,
        tool_poses=np.array(poses),
        joint_positions=np.array(joints),
        gripper=np.array(gripper),
        plans=len(planning_s),
        rejections=rejections,
        planning_s=tuple(planning_s),
        violations=loop.violations,
    )


@dataclass(frozen=True)
class EpisodeSettings:
    """How a policy's episode is run.

    Attributes:
        limit_s: Simulated time after which the episode has failed (s).
        plan_period_s: Time from plan to plan (s); a whole number of images at 20 Hz.
        delay_s: Time from an image to the command that follows from it (s).
        disturbance: What is not as it should be.
    """

    limit_s: float = 20.0
    plan_period_s: float = 0.2
    delay_s: float = 0.0
    disturbance: Disturbance = field(default_factory=Disturbance)


class PolicyPlanner:
    """A policy that plans on every few images, of which some never arrive.

    Args:
        policy: The policy; it is reset here.
        plan_period_s: Time from plan to plan (s).
        drop_frames: Share of images that never arrive.
        seed: Seed of which images these are.
    """

    def __init__(self, policy: Policy, plan_period_s: float, drop_frames: float, seed: int) -> None:
        policy.reset()
        self._policy = policy
        self._period_ns = round(plan_period_s * 1e9)
        self._drop_frames = drop_frames
        self._dropped = np.random.default_rng((seed, 1))
        self._next_ns = 0

    def plan(self, loop: ClosedLoop) -> ActionChunk | None:
        """Plan on the present image, if it is time to and the image arrives; see `Planner.plan`."""
        if loop.now_ns < self._next_ns or self._dropped.random() < self._drop_frames:
            return None
        self._next_ns = loop.now_ns + self._period_ns
        observation = loop.observe()
        return self._policy.plan(observation, loop.continuation(observation))


def run_policy_episode(
    scene: LiberoScene,
    policy: Policy,
    configuration: Configuration,
    settings: EpisodeSettings,
    *,
    seed: int,
    observer: Observer | None = None,
) -> EpisodeTrace:
    """Let a policy try the task of a scene that was just reset.

    Args:
        scene: The scene after its reset.
        policy: The policy; it is reset here.
        configuration: The robot's settings.
        settings: Settings of the episode.
        seed: Seed of what the disturbance draws, and of the policy's noise.
        observer: Watches; without it only the images that are planned on are rendered.
    """
    loop = ClosedLoop(scene, configuration, settings.disturbance, seed)
    planner = PolicyPlanner(policy, settings.plan_period_s, settings.disturbance.drop_frames, seed)
    return run_episode(loop, planner, limit_s=settings.limit_s, delay_s=settings.delay_s, observer=observer)
