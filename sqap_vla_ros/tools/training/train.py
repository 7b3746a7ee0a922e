"""Training of a small CogACT: a loop that can be stopped at any time and resumes where it stopped."""

import math
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.run_directory import reserve
from sqap_vla_ros.testing.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.tools.training.batches import Text, prefetched
from sqap_vla_ros.tools.training.curves import CurvePoint, write_curve
from sqap_vla_ros.tools.training.dataset import DemonstrationSet, Samples, action_statistics
from sqap_vla_ros.tools.training.export import write_run
from sqap_vla_ros.tools.training.held_out import HeldOut, HeldOutErrors
from sqap_vla_ros.tools.training.losses import Batch, Learner, SeededNoise
from sqap_vla_ros.tools.training.micro_batches import MicroBatches
from sqap_vla_ros.tools.training.network import SIZES, fresh_network
from sqap_vla_ros.tools.training.optimisers import Optimisers, exponential_average, learning_rate
from sqap_vla_ros.tools.training.settings import TrainingError, TrainingSettings
from sqap_vla_ros.tools.training.state import STATE, TrainingState, read_averaged_weights, read_state
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE, ActionStatistics, choose_statistics, read_statistics
from sqap_vla_ros.vlm.tokenizer import TOKENIZER_FILE, load_tokenizer
from sqap_vla_ros.vlm.weights import CheckpointError

IDENTITY_FILE = "training.json"
_HELD_OUT_FRAMES = 64
# Reading a loss from a GPU makes it wait, so it is not done at every step.
_REPORT_EVERY = 10
# A training that is resumed may get longer.
_CHANGEABLE = ("samples",)


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        samples: Frames learned from so far.
        total: Frames in all.
        loss: Loss of the noise prediction, averaged over about a hundred steps.
        held_out: Errors on the held-out frames at the last save; None before the first.
    """

    samples: int
    total: int
    loss: float
    held_out: HeldOutErrors | None


def train(
    demonstrations: DemonstrationSet,
    directory: Path,
    settings: TrainingSettings,
    configuration: Configuration,
    *,
    device: torch.device | str = "cpu",
    command: str = "",
    save_every_s: float = 120.0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train until the settings' samples are seen, or until SIGINT or SIGTERM; a training that had begun is resumed.

    Every save leaves a complete run directory with the averaged weights, the learning curve, and the state to resume
    from.

    Args:
        demonstrations: What to learn from.
        directory: The run directory.
        settings: Settings of the training.
        configuration: The robot's settings.
        device: Where to compute.
        command: The command line, for config.json.
        save_every_s: Time between two saves (s).
        on_progress: Called with the progress every few steps.

    Raises:
        RunDirectoryError: The directory holds a training with other settings or demonstrations.
        TrainingError: The state in the directory, or the training to start from, cannot be used.
        KeyboardInterrupt: A signal stopped the training; everything is saved.
    """
    # The background's pictures are small: cores are better used by the network.
    cv2.setNumThreads(1)
    identity = {
        **{name: value for name, value in asdict(settings).items() if name not in _CHANGEABLE},
        "action convention of the robot": configuration.action.model_dump(mode="json"),
        "frames of the robot": configuration.frames.model_dump(mode="json"),
        "demonstrations": demonstrations.sha256,
    }
    run = reserve(directory, identity, file=IDENTITY_FILE, results=(STATE, "checkpoints/*"))
    with run.lock(), _signals() as stopped:
        trainer = _Trainer(demonstrations, directory, settings, configuration, torch.device(device), command)
        trainer.run(stopped, save_every_s, on_progress)
    if stopped.is_set():
        raise KeyboardInterrupt


class _Trainer:
    """A training with everything that it needs in memory, as far as it has come."""

    def __init__(
        self,
        demonstrations: DemonstrationSet,
        directory: Path,
        settings: TrainingSettings,
        configuration: Configuration,
        device: torch.device,
        command: str,
    ) -> None:
        self._directory, self._settings, self._device, self._command = directory, settings, device, command
        self._demonstrations = demonstrations
        state = read_state(directory, device)
        write_small_tokenizer(directory, demonstrations.instructions)
        self._text = Text.of(load_tokenizer(directory), demonstrations.instructions)
        self._statistics = self._action_statistics(resumed=state is not None)
        relative = configuration.action.gripper_relative
        self._samples = Samples(demonstrations.training, self._statistics, relative)
        held_out = Samples(demonstrations.held_out, self._statistics, relative).spread(_HELD_OUT_FRAMES)
        self._held_out = HeldOut(held_out, self._text, self._statistics, configuration)

        torch.manual_seed(settings.seed)
        self._size = SIZES[settings.size]
        network = fresh_network(self._size, len(self._text.vocabulary), settings.seed)
        self._learner = Learner(network).to(device)
        self._averaged = AveragedModel(self._learner, multi_avg_fn=exponential_average(settings.average))
        self._optimisers = Optimisers(self._learner, settings.weight_decay)
        self._micro_batches = MicroBatches(self._learner, settings)
        self._step = 0
        self._seconds = 0.0
        self._curve: list[CurvePoint] = []
        if state is not None:
            self._resume(state)
        elif settings.start_from:
            self._start_from(Path(settings.start_from))

    def _action_statistics(self, resumed: bool) -> ActionStatistics:
        """Statistics of the demonstrated actions, or those of the training to start from, whose outputs they scale.

        Raises:
            TrainingError: The training to start from cannot be read, or was trained on other instructions.
        """
        start_from = self._settings.start_from
        if not start_from:
            return action_statistics(self._demonstrations.training)
        earlier = self._directory if resumed else Path(start_from)
        try:
            if (earlier / TOKENIZER_FILE).read_bytes() != (self._directory / TOKENIZER_FILE).read_bytes():
                raise TrainingError(f"{earlier} was trained on other instructions; begin without --start-from")
            return choose_statistics(read_statistics(earlier / STATISTICS_FILE), None)
        except (CheckpointError, OSError) as error:
            raise TrainingError(f"{earlier}: cannot begin with its weights ({in_one_line(error)})") from None

    def _resume(self, state: TrainingState) -> None:
        self._learner.load_state_dict(state.learner)
        self._averaged.load_state_dict(state.averaged)
        self._optimisers.load_state_dict(state.optimisers)
        self._step, self._seconds, self._curve = state.step, state.seconds, state.curve

    def _start_from(self, earlier: Path) -> None:
        """Begin with the averaged weights of another training, auxiliary heads included.

        Raises:
            TrainingError: It has none, or they are of another size or for other instructions.
        """
        try:
            self._averaged.load_state_dict(read_averaged_weights(earlier, self._device))
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f"{earlier}: cannot begin with its weights ({str(error).splitlines()[0]}); give a directory that "
                "`sqap-vla train` made with the same --size and the same tasks"
            ) from None
        self._averaged.n_averaged.zero_()
        module: Any = self._averaged.module
        self._learner.load_state_dict(module.state_dict())

    def run(self, stopped: threading.Event, save_every_s: float, on_progress: Callable[[Progress], None]) -> None:
        """Take the steps that are left, and save every so often and at the end."""
        settings = self._settings
        losses: dict[str, float] = defaultdict(float)
        found: dict[str, Tensor] = {}
        counted, smooth = 0, math.nan
        saved_step = self._step
        saved = begun = time.monotonic()
        before = self._seconds
        # On a CPU the network needs the cores; with a GPU they have nothing else to do.
        workers = 1 if self._device.type == "cpu" else max(1, min(12, len(os.sched_getaffinity(0)) - 1))
        with closing(prefetched(self._samples, self._text, settings, self._step, workers)) as batches:
            while self._step < settings.steps and not stopped.is_set():
                found = self._learn(*next(batches))
                self._step += 1
                if self._step % _REPORT_EVERY == 0 or self._step == settings.steps:
                    values = {name: float(loss) for name, loss in found.items()}
                    if not math.isfinite(values["noise"]):
                        raise TrainingError(
                            f"the loss is not finite after {self._step} steps; lower the learning rate "
                            f"({settings.learning_rate})"
                        )
                    for name, value in values.items():
                        losses[name] += value
                    counted += 1
                    smooth = values["noise"] if math.isnan(smooth) else 0.9 * smooth + 0.1 * values["noise"]
                    last = self._curve[-1].held_out if self._curve else None
                    on_progress(Progress(self._step * settings.batch, settings.steps * settings.batch, smooth, last))
                self._seconds = before + time.monotonic() - begun
                if counted and (time.monotonic() - saved > save_every_s or self._step == settings.steps):
                    self._save({name: value / counted for name, value in losses.items()})
                    losses.clear()
                    counted, saved, saved_step = 0, time.monotonic(), self._step
            if self._step != saved_step:
                self._save({name: losses[name] / counted if counted else float(found[name]) for name in found})

    def _learn(self, batch: Batch, noise: SeededNoise) -> dict[str, Tensor]:
        """Take one step of the optimisers; returns each loss by its name."""
        losses = self._micro_batches.backward(batch.to(self._device), noise.to(self._device))
        torch.nn.utils.clip_grad_norm_(self._learner.parameters(), self._settings.gradient_norm)
        self._optimisers.step(learning_rate(self._settings, self._step))
        self._averaged.update_parameters(self._learner)
        return losses

    def _save(self, losses: dict[str, float]) -> None:
        averaged: Any = self._averaged.module
        held_out = self._held_out.measure(averaged)
        samples = self._step * self._settings.batch
        rate = learning_rate(self._settings, self._step - 1)
        self._curve.append(CurvePoint(samples, self._seconds, rate, losses, held_out))
        training = {
            "command": self._command,
            **asdict(self._settings),
            "tasks": self._demonstrations.tasks,
            "samples_seen": samples,
            "seconds": round(self._seconds),
            "demonstrations": len(self._demonstrations.training),
            "demonstrations_sha256": self._demonstrations.sha256,
        }
        write_run(
            self._directory,
            averaged.network,
            self._settings.size,
            self._size,
            self._text.vocabulary,
            self._statistics,
            training,
        )
        write_curve(self._directory, self._curve)
        # Written last, so that a state always has the run directory that belongs to it.
        state = TrainingState(
            step=self._step,
            seconds=self._seconds,
            learner=self._learner.state_dict(),
            averaged=self._averaged.state_dict(),
            optimisers=self._optimisers.state_dict(),
            curve=self._curve,
        )
        state.write(self._directory)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set, so that a step is finished and saved.

    Signals arrive in the main thread only; in another one the event is never set.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
