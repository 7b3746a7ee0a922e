"""Recording demonstrations: an expert drives the arm, disturbed now and then, and what the arm did is kept.

The expert's moves go through the node's commander and the arm's controller like a policy's. What is imitated later are
the poses that were reached, so that the labels are motions that this arm can make.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.demonstrations import Demonstration
from sqap_vla_ros.config.robot import Configuration, load_configuration
from sqap_vla_ros.core.action_chunk import ActionChunk
from sqap_vla_ros.core.policy import Policy
from sqap_vla_ros.core.run_directory import RunDirectory, reserve
from sqap_vla_ros.core.token_selection import keep_all
from sqap_vla_ros.perception.transforms import vector_from_rotation
from sqap_vla_ros.policies.cogact.checkpoint import open_checkpoint
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.simulation.closed_loop import FRAME_NS, ClosedLoop
from sqap_vla_ros.simulation.experts import Expert, Move, expert_for
from sqap_vla_ros.simulation.libero import LiberoScene
from sqap_vla_ros.simulation.loaded_scene import scene_of
from sqap_vla_ros.simulation.tasks import Task

Array = NDArray[np.float64]

_HORIZON = 16
_SPEED_M, _SPEED_RAD = 0.0125, 0.03  # per control step at 20 Hz: a quarter of a metre per second
_GAIN = 0.35  # share of the remaining way per step: it slows down towards the target
_AFTER_SUCCESS = 12  # control steps that are still recorded
_FRAME_EVERY = 3  # control steps
_BLOCK = 25  # episodes after which the next task has its turn
_LIMIT = 1.5  # an expert that is disturbed may take longer than an evaluated policy
# Lengths of their turns. A policy that missed its grasp goes on to the goal without the object: its turns are long
# enough for that, so that the expert shows how to return.
_POLICY_STEPS, _EXPERT_STEPS = (10, 150), (20, 50)
_PLAN_EVERY = 4  # control steps, as in an evaluation
_NEAR_M = 0.12
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Bursts:
    """How an expert is disturbed: for some steps now and then, the tool goes where it should not.

    Attributes:
        rate: Bursts per control step.
        near: So many times as often where the tool is about to grasp or let go: there an error of a centimetre counts.
        steps: Shortest and longest [control steps].
        reach_m: Standard deviation of how far it is pushed away [m].
        gripper: Share of bursts in which the fingers do the opposite as well.
        start: Chance that an episode begins with one, of twice the length.
    """

    rate: float = 0.015
    near: float = 3.0
    steps: tuple[int, int] = (4, 10)
    reach_m: float = 0.05
    gripper: float = 0.1
    start: float = 0.7


class _Pushes:
    """Draws bursts, and the way that each pushes."""

    def __init__(self, bursts: Bursts, draw: np.random.Generator) -> None:
        self._bursts = bursts
        self._draw = draw
        self._left = 0
        if draw.random() < bursts.start:
            self._begin(2)

    def chunk(self, loop: ClosedLoop, T_base_tool: Array, move: Move) -> ActionChunk:
        """Where it pushes."""
        target = T_base_tool[:3, 3] + self._push
        gripper = 1 - move.gripper if self._inverts_gripper else move.gripper
        return _chunk(_actions(T_base_tool, replace(move, target=target, gripper=gripper)), loop)

    def _begin(self, factor: int = 1) -> None:
        bursts, draw = self._bursts, self._draw
        self._left = factor * int(draw.integers(*bursts.steps, endpoint=True))
        self._push = draw.normal(0.0, factor * bursts.reach_m, 3) * (1.0, 1.0, 0.6)
        self._inverts_gripper = bool(draw.random() < bursts.gripper)

    def step(self, is_near: bool) -> bool:
        """Whether the next control step is disturbed; and whether the tool is near to where it is going."""
        rate = self._bursts.rate * (self._bursts.near if is_near else 1.0)
        if self._left == 0 and self._draw.random() < rate:
            self._begin()
        self._left -= self._left > 0
        return self._left > 0


class _Detours:
    """A trained policy drives in turns with the expert, who shows what to do from where it got to.

    As in DAgger (Ross et al. 2011), but in turns of some length: what is imitated are motions that were really made.
    """

    def __init__(self, policy: Policy, draw: np.random.Generator) -> None:
        self._policy = policy
        self._draw = draw
        self._drives = bool(draw.random() < 0.5)
        self._left = 0
        self._since_plan = 0
        policy.reset()

    def step(self, is_near: bool) -> bool:
        """Whether the policy drives in the next control step."""
        if self._left == 0:
            self._drives = not self._drives
            self._left = int(self._draw.integers(*(_POLICY_STEPS if self._drives else _EXPERT_STEPS), endpoint=True))
            self._since_plan = 0
        self._left -= 1
        return self._drives

    def chunk(self, loop: ClosedLoop, T_base_tool: Array, move: Move) -> ActionChunk | None:
        """The policy's plan, every few steps; None: the arm goes on with the last one."""
        self._since_plan += 1
        return self._policy.plan(loop.observe()) if self._since_plan % _PLAN_EVERY == 1 else None


@dataclass(frozen=True)
class Job:
    """One episode to record.

    Attributes:
        task: What to do.
        seed: Of the initial state and of the disturbances.
        robot: Name of the robot's settings.
        path: File to write.
        policy: Checkpoint of the policy that drives in turns with the expert; empty: the expert is pushed now and then.
    """

    task: Task
    seed: int
    robot: str
    path: Path
    policy: str

    @property
    def failed(self) -> Path:
        """An empty file there says that the expert failed: the same seed would make it fail again."""
        return self.path.with_suffix(".failed")


def record_job(job: Job) -> bool:
    """Record an episode; returns whether the expert succeeded, and with it whether there is a file."""
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
    """What is to be recorded, some of each task in turn."""
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
    """Those that are neither recorded nor known to fail."""
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
    """One episode from a freshly drawn initial state.

    Args:
        scene: Of the task; it is reset here.
        task: The task.
        configuration: The robot's settings.
        seed: Of the initial state and of the disturbances.
        bursts: The disturbances.
        policy: Drives in turns with the expert instead.

    Returns:
        The demonstration; None when the expert failed.
    """
    scene.reset(None, seed)
    draw = np.random.default_rng(seed)
    disturber = _Pushes(bursts, draw) if policy is None else _Detours(policy, draw)
    expert: Expert | None = None
    # The expert looks anew at every step: what it meant before is not to be blended in.
    command = configuration.command.model_copy(update={"blending": "none"})
    loop = ClosedLoop(scene, configuration.model_copy(update={"command": command}), seed=seed)
    recording = _Recording(scene, expert_for(task))
    now_ns, steps_left, after = loop.now_ns, round(_LIMIT * task.limit_s * 1e9 / FRAME_NS), _AFTER_SUCCESS
    while steps_left and after:
        T_base_tool = scene.T_base_tool
        # After a disturbance the expert looks at what there is as if for the first time.
        expert = expert or expert_for(task)
        move = expert.act(T_base_tool, scene)
        is_near = bool(np.linalg.norm(move.target - T_base_tool[:3, 3]) < _NEAR_M)
        disturbed = disturber.step(is_near) and after == _AFTER_SUCCESS
        chunk: ActionChunk | None = _chunk(_actions(T_base_tool, move), loop)
        if disturbed:
            expert, chunk = None, disturber.chunk(loop, T_base_tool, move)
        recording.add(T_base_tool, move.gripper, not disturbed, move.phase)
        if chunk is not None:
            loop.command(chunk)
        now_ns += FRAME_NS
        loop.advance(now_ns)
        steps_left -= 1
        after -= scene.success()
    return recording.finish(task, seed) if scene.success() else None


def _actions(T_base_tool: Array, move: Move) -> Array:
    """A chunk of deltas, float64 (16, 7): straight to the target, slower as it comes near."""
    actions = np.zeros((_HORIZON, 7))
    actions[:, 6] = move.gripper
    way, turn = move.target - T_base_tool[:3, 3], vector_from_rotation(move.rotation @ T_base_tool[:3, :3].T)
    for action in actions:
        for part, left, most in ((slice(0, 3), way, _SPEED_M), (slice(3, 6), turn, _SPEED_RAD)):
            length = float(np.linalg.norm(left))
            action[part] = left * (min(most, _GAIN * length) / max(length, 1e-9))
            left -= action[part]
    return actions


def _chunk(actions: Array, loop: ClosedLoop) -> ActionChunk:
    return ActionChunk(
        stamp_ns=loop.now_ns,
        actions=actions,
        time_step_s=FRAME_NS * 1e-9,
        T_base_tool=loop.scene.T_base_tool,
        instruction=loop.scene.instruction,
        seed=0,
        selection=keep_all(),
    )


class _Recording:
    """What is kept of an episode."""

    def __init__(self, scene: LiberoScene, expert: Expert) -> None:
        self._scene = scene
        self._expert = expert
        self._T_base_tool: list[Array] = []
        self._gripper: list[float] = [1.0]
        self._intended: list[bool] = []
        self._frame_steps: list[int] = []
        self._images: list[bytes] = []
        self._points_m: list[Array] = []
        self._phases: list[int] = []

    def add(self, T_base_tool: Array, gripper: float, intended: bool, phase: int) -> None:
        """One state with what is done there, and an image of every third."""
        step = len(self._T_base_tool)
        self._T_base_tool.append(T_base_tool)
        self._gripper.append(gripper)
        self._intended.append(intended)
        if step % _FRAME_EVERY == 0:
            image = cv2.cvtColor(self._scene.render(), cv2.COLOR_RGB2BGR)
            self._images.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes())
            self._points_m.append(np.array([T_base_tool[:3, 3], *self._expert.points(self._scene)]))
            self._frame_steps.append(step)
            self._phases.append(phase)

    def finish(self, task: Task, seed: int) -> Demonstration:
        """The demonstration, which ends with the scene's present state."""
        points_m = np.array(self._points_m)
        return Demonstration(
            task=task.name,
            instruction=self._scene.instruction,
            seed=seed,
            rate_hz=1e9 / FRAME_NS,
            images=tuple(self._images),
            frame_steps=np.array(self._frame_steps),
            T_base_tool=np.array([*self._T_base_tool, self._scene.T_base_tool], np.float32),
            gripper=np.array(self._gripper, np.float32),
            intended=np.array(self._intended),
            points_px=self._pixels(points_m).astype(np.float32),
            points_m=points_m.astype(np.float32),
            phase=np.array(self._phases),
        )

    def _pixels(self, points_m: Array) -> Array:
        """Pixels (u, v) of points in the base frame, float64 (..., 3); NaN outside the image."""
        T_camera_base = np.linalg.inv(self._scene.T_base_camera)
        in_image = (points_m @ T_camera_base[:3, :3].T + T_camera_base[:3, 3]) @ self._scene.camera_matrix.T
        pixels = in_image[..., :2] / in_image[..., 2:]
        size = np.array([self._scene.width, self._scene.height])
        inside = ((pixels >= -0.5) & (pixels < size - 0.5)).all(axis=-1, keepdims=True)
        return np.where(inside & (in_image[..., 2:] > 0), pixels, np.nan)
