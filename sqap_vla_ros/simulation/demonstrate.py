"""Recording of demonstrations: an expert drives the arm, disturbed now and then, and what the arm did is recorded.

The expert's moves go through the node's commander and the arm's controller like a policy's. What is imitated later are
the poses that were reached, so that the labels are motions that this arm can make.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from sqap_vla_ros.bags.demonstrations import Demonstration
from sqap_vla_ros.config.robot import Configuration, load_configuration
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.policy import Policy
from sqap_vla_ros.core.run_directory import RunDirectory, reserve
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.simulation.closed_loop import ClosedLoop
from sqap_vla_ros.simulation.demonstration_recording import Recording
from sqap_vla_ros.simulation.disturbed_experts import Bursts, Detours, Pushes, chunk_of, straight_to
from sqap_vla_ros.simulation.episode import run_episode
from sqap_vla_ros.simulation.experts import Expert, expert_for
from sqap_vla_ros.simulation.libero import LiberoScene
from sqap_vla_ros.simulation.loaded_scene import scene_of
from sqap_vla_ros.simulation.tasks import Task
from sqap_vla_ros.vlm.checkpoint import open_checkpoint

_BLOCK = 25  # episodes after which the next task has its turn
_AFTER_SUCCESS = 12  # control steps that are still recorded
_LIMIT = 1.5  # an expert that is disturbed may take longer than an evaluated policy
_NEAR_M = 0.12


@dataclass(frozen=True)
class Job:
    """One episode to record.

    Attributes:
        task: The task.
        seed: Seed of the initial state and of the disturbances.
        robot: Name of the robot's settings.
        path: File to write.
        policy: Checkpoint of the policy that takes turns with the expert; empty: the expert is pushed now and then.
    """

    task: Task
    seed: int
    robot: str
    path: Path
    policy: str

    @property
    def failed(self) -> Path:
        """Path of an empty file that marks an expert's failure: the same seed would make it fail again."""
        return self.path.with_suffix(".failed")


def record_job(job: Job) -> bool:
    """Record an episode; returns whether the expert succeeded, which is also whether there is a file."""
    policy = _policy(job.policy, job.robot) if job.policy else None
    demonstration = record(scene_of(job.task), job.task, load_configuration(job.robot), job.seed, policy=policy)
    if demonstration is None:
        job.failed.parent.mkdir(parents=True, exist_ok=True)
        job.failed.touch()
        return False
    demonstration.write(job.path)
    return True


def all_jobs(
    directory: Path, tasks: tuple[Task, ...], episodes: int, robot: str, policy: str = "", first_seed: int = 0
) -> list[Job]:
    """All episodes that are to be recorded, some of each task in turn."""
    seeds = range(first_seed, first_seed + episodes)
    return [
        Job(task, seed, robot, directory / task.name / f"{seed:06d}.safetensors", policy)
        for block in range(0, episodes, _BLOCK)
        for task in tasks
        for seed in seeds[block : block + _BLOCK]
    ]


def reserve_demonstrations(directory: Path, robot: str, policy: str) -> RunDirectory:
    """Reserve a directory for demonstrations that are recorded with one robot's settings and one policy's weights.

    Raises:
        RunDirectoryError: The directory holds demonstrations that were recorded with others.
        CheckpointError: There is no such policy.
    """
    configuration = load_configuration(robot)
    identity = {
        "policy": open_checkpoint(policy).sha256() if policy else "",
        "robot": configuration.model_dump(mode="json", include={"robot_name", "action", "frames", "command", "limits"}),
    }
    return reserve(directory, identity, file="recorded_with.json", results=("*/*.safetensors",))


def missing_jobs(jobs: Iterable[Job]) -> list[Job]:
    """The jobs that are neither recorded nor known to fail."""
    return [job for job in jobs if not (job.path.exists() or job.failed.exists())]


@lru_cache(maxsize=1)
def _policy(checkpoint: str, robot: str) -> Policy:
    configuration = load_configuration(robot, checkpoint=checkpoint, policy="fp16", device="cpu", torch_threads=1)
    return load_policy(configuration, lambda words: None)


def record(
    scene: LiberoScene,
    task: Task,
    configuration: Configuration,
    seed: int,
    bursts: Bursts = Bursts(),  # noqa: B008
    policy: Policy | None = None,
) -> Demonstration | None:
    """Record an episode from a freshly drawn initial state.

    Args:
        scene: The task's scene; it is reset here.
        task: The task.
        configuration: The robot's settings.
        seed: Seed of the initial state and of the disturbances.
        bursts: The disturbances.
        policy: Takes turns with the expert, in place of the bursts.

    Returns:
        The demonstration; None when the expert failed.
    """
    scene.reset(None, seed)
    draw = np.random.default_rng(seed)
    disturber = Pushes(bursts, draw) if policy is None else Detours(policy, draw)
    # The expert looks anew at every step: what it meant before is not to be blended in.
    command = configuration.command.model_copy(update={"blending": "none"})
    loop = ClosedLoop(scene, configuration.model_copy(update={"command": command}), seed=seed)
    planner = _RecordedExpert(scene, task, disturber)
    trace = run_episode(loop, planner, limit_s=_LIMIT * task.limit_s, steps_at_goal=_AFTER_SUCCESS)
    return planner.recording.finish(task, seed) if trace.success else None


class _RecordedExpert:
    """An expert, sometimes disturbed, that plans at every step and records what it does.

    Attributes:
        recording: The episode so far.
    """

    def __init__(self, scene: LiberoScene, task: Task, disturber: Pushes | Detours) -> None:
        self.recording = Recording(scene, expert_for(task))
        self._scene = scene
        self._task = task
        self._disturber = disturber
        self._expert: Expert | None = None
        self._was_done = False

    def plan(self, loop: ClosedLoop) -> ActionChunk | None:
        """The expert's or the disturbance's chunk; see `Planner.plan`."""
        T_base_tool = self._scene.T_base_tool
        # After a disturbance the expert looks at what there is as if for the first time.
        self._expert = self._expert or expert_for(self._task)
        move = self._expert.act(T_base_tool, self._scene)
        is_near = bool(np.linalg.norm(move.target - T_base_tool[:3, 3]) < _NEAR_M)
        self._was_done = self._was_done or self._scene.success()
        is_disturbed = self._disturber.step(is_near) and not self._was_done
        chunk: ActionChunk | None = chunk_of(straight_to(T_base_tool, move), loop)
        if is_disturbed:
            self._expert, chunk = None, self._disturber.chunk(loop, T_base_tool, move)
        self.recording.add(T_base_tool, move.gripper, not is_disturbed, move.phase)
        return chunk
