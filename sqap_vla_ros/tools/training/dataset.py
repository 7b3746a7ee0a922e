"""Demonstrations as samples to learn from: frames with the actions that follow them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.demonstrations import Demonstration, DemonstrationError, find_demonstrations
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.perception.conventions import label
from sqap_vla_ros.tools.training.augmentation import augment
from sqap_vla_ros.tools.training.network import HORIZON
from sqap_vla_ros.tools.training.settings import TrainingError
from sqap_vla_ros.vlm.statistics import GRIPPER, ActionStatistics, normalise

STATISTICS_KEY = "libero"
_HELD_OUT = 0.05
# For so long after a disturbance the arm still moves in its direction, which no single image shows [s].
_SETTLING_S = 0.35
# Quantiles closer than this (m, rad per step) are of a direction in which nothing moves: stretched to ±1, its jitter
# would be learned as if it were motion.
_SMALLEST_SPAN = 0.004


@dataclass(frozen=True)
class Episode:
    """A demonstration with its actions.

    Attributes:
        demonstration: The recording.
        task: Index of its task.
        actions: float64 (steps, 7), from each state to the next, under the robot's convention.
        imitated: bool (steps,), which actions are the expert's and not a disturbance's.
        usable: int64 (n,), frames whose next action is to be imitated.
    """

    demonstration: Demonstration
    task: int
    actions: NDArray[np.float64]
    imitated: NDArray[np.bool_]
    usable: NDArray[np.int64]


@dataclass(frozen=True)
class DemonstrationSet:
    """What is trained on and what is held out.

    Attributes:
        tasks: Names of the tasks.
        instructions: The instruction of each task.
        training: Episodes to learn from.
        held_out: One episode in twenty of each task, chosen by the hash of its seed.
        sha256: Hash over names and contents of all files, hexadecimal.
    """

    tasks: tuple[str, ...]
    instructions: tuple[str, ...]
    training: tuple[Episode, ...]
    held_out: tuple[Episode, ...]
    sha256: str


def read_demonstrations(
    directory: Path,
    tasks: Sequence[str],
    configuration: Configuration,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> DemonstrationSet:
    """Read all episodes into memory; their images stay compressed.

    Args:
        directory: Directory with a folder per task.
        tasks: Names of tasks; empty: all.
        configuration: The robot's settings, whose convention defines what an action is.
        on_progress: Called with the number of files that are read, and of all files.

    Raises:
        DemonstrationError: There are no demonstrations, or one cannot be read.
        TrainingError: A task is not there or has fewer than two episodes, or they are not at the robot's rate.
    """
    files = find_demonstrations(directory)
    if unknown := [task for task in tasks if task not in files]:
        raise TrainingError(f"{directory}: no demonstrations of '{unknown[0]}'; there are {', '.join(files)}")
    names = tuple(task for task in files if not tasks or task in tasks)
    total = sum(len(files[name]) for name in names)
    digest = hashlib.sha256()
    instructions: list[str] = []
    training: list[Episode] = []
    held_out: list[Episode] = []
    for task, name in enumerate(names):
        episodes = []
        for path in files[name]:
            digest.update(f"{name}/{path.name}".encode() + path.read_bytes())
            episodes.append(_episode(path, Demonstration.read(path), task, configuration))
            on_progress(len(training) + len(held_out) + len(episodes), total)
        if len(episodes) < 2:
            raise TrainingError(f"{directory / name}: one demonstration, expected at least two (one is held out)")
        wordings = {episode.demonstration.instruction for episode in episodes}
        if len(wordings) > 1:
            raise TrainingError(
                f"{directory / name}: several instructions ({sorted(wordings)}); give each its own task"
            )
        instructions.append(wordings.pop())
        episodes.sort(key=lambda episode: _mark(episode.demonstration.seed))
        below = sum(_mark(episode.demonstration.seed) < _HELD_OUT for episode in episodes)
        count = min(max(1, below), len(episodes) - 1)
        held_out += episodes[:count]
        training += episodes[count:]
    return DemonstrationSet(names, tuple(instructions), tuple(training), tuple(held_out), digest.hexdigest())


def _mark(seed: int) -> float:
    """A number in [0, 1) that depends on a seed only, so that what is held out once stays so in every set."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8]) / 2**64


def _episode(path: Path, demonstration: Demonstration, task: int, configuration: Configuration) -> Episode:
    rate_hz = configuration.action.rate_hz
    if demonstration.rate_hz != rate_hz:
        raise TrainingError(f"{path}: recorded at {demonstration.rate_hz} Hz, the robot's actions are at {rate_hz} Hz")
    poses, gripper = demonstration.T_base_tool.astype(np.float64), demonstration.gripper.astype(np.float64)
    actions = label(poses, gripper, configuration.action, configuration.frames)
    steps = demonstration.frame_steps
    settling = round(_SETTLING_S * rate_hz)
    disturbed = np.convolve(~demonstration.intended, np.ones(1 + settling))[: len(actions)] > 0
    # The last state has no action.
    usable = np.flatnonzero(np.append(~disturbed, False)[steps])
    return Episode(demonstration, task, actions, ~disturbed, usable)


def action_statistics(episodes: Sequence[Episode]) -> ActionStatistics:
    """Normalisation from the quantiles of the actions that are to be imitated; the gripper is not normalised."""
    actions = np.concatenate([episode.actions[episode.imitated] for episode in episodes])
    q01, q99 = np.quantile(actions, (0.01, 0.99), axis=0)
    middle, half = (q01 + q99) / 2, np.maximum(q99 - q01, _SMALLEST_SPAN) / 2
    mask = np.arange(actions.shape[1]) != GRIPPER
    return ActionStatistics(
        STATISTICS_KEY, np.where(mask, middle - half, q01), np.where(mask, middle + half, q99), mask
    )


@dataclass(frozen=True)
class Sample:
    """A frame with its labels.

    Attributes:
        image: uint8 (224, 224, 3), RGB.
        task: Index of the task.
        actions: float32 (horizon, 7), normalised; beyond the end: no motion, the gripper as it was.
        valid: bool (horizon,), those up to the first disturbance.
        points_px: float32 (3, 2), as recorded, in this image.
        points_m: float32 (3, 3), as recorded.
        phase: As recorded.
        T_base_tool: float64 (4, 4), tool pose at the image.
    """

    image: NDArray[np.uint8]
    task: int
    actions: NDArray[np.float32]
    valid: NDArray[np.bool_]
    points_px: NDArray[np.float32]
    points_m: NDArray[np.float32]
    phase: int
    T_base_tool: NDArray[np.float64]


class Samples:
    """The usable frames of some episodes, drawn evenly over their tasks.

    Args:
        episodes: The episodes.
        statistics: Normalisation of the actions.
        relative_gripper: Whether gripper values are changes, which end with the episode.
    """

    def __init__(self, episodes: Sequence[Episode], statistics: ActionStatistics, relative_gripper: bool) -> None:
        self._episodes = episodes
        self._statistics = statistics
        self._relative_gripper = relative_gripper
        tasks = sorted({episode.task for episode in episodes})
        self._places = [
            np.array([(i, f) for i, e in enumerate(episodes) if e.task == task for f in e.usable]).reshape(-1, 2)
            for task in tasks
        ]
        if any(not len(places) for places in self._places):
            raise TrainingError("a task has no frame whose next action is to be imitated; record more demonstrations")

    def draw(self, rng: np.random.Generator, augmented: bool) -> Sample:
        """Draw a random frame of a random task."""
        places = self._places[rng.integers(len(self._places))]
        sample = self._sample(*places[rng.integers(len(places))])
        if not augmented:
            return sample
        image, points_px = augment(sample.image, sample.points_px, rng)
        return Sample(**{**vars(sample), "image": image, "points_px": points_px})

    def spread(self, count: int) -> list[Sample]:
        """About so many frames, evenly over tasks and time."""
        each = -(-count // len(self._places))
        return [
            self._sample(*places[i])
            for places in self._places
            for i in np.unique(np.linspace(0, len(places) - 1, each).round().astype(int))
        ]

    def _sample(self, episode_index: int, frame: int) -> Sample:
        episode = self._episodes[episode_index]
        demonstration = episode.demonstration
        start = int(demonstration.frame_steps[frame])
        actions = np.zeros((HORIZON, 7))
        following = episode.actions[start : start + HORIZON]
        actions[: len(following)] = following
        if not self._relative_gripper:
            actions[len(following) :, GRIPPER] = following[-1, GRIPPER]
        intended = np.ones(HORIZON, dtype=bool)
        intended[: len(following)] = demonstration.intended[start : start + HORIZON]
        return Sample(
            image=decode(demonstration.images[frame]),
            task=episode.task,
            actions=normalise(actions, self._statistics).astype(np.float32),
            valid=np.logical_and.accumulate(intended),
            points_px=demonstration.points_px[frame],
            points_m=demonstration.points_m[frame],
            phase=int(demonstration.phase[frame]),
            T_base_tool=demonstration.T_base_tool[start].astype(np.float64),
        )


def decode(jpeg: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG file into uint8 (height, width, 3), RGB.

    Raises:
        DemonstrationError: It is no JPEG file.
    """
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DemonstrationError("a frame is not a JPEG picture; record the demonstrations again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
