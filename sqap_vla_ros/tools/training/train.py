"""Training of a small CogACT: a loop that can be stopped at any time and goes on where it was."""

import io
import math
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.errors import in_one_line
from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.testing.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.tools.training.batches import Text, prefetched
from sqap_vla_ros.tools.training.curves import CurvePoint, write_curve
from sqap_vla_ros.tools.training.dataset import DemonstrationSet, Samples, action_statistics
from sqap_vla_ros.tools.training.export import write_run
from sqap_vla_ros.tools.training.held_out import HeldOut, HeldOutErrors
from sqap_vla_ros.tools.training.losses import Batch, Draws, Learner
from sqap_vla_ros.tools.training.network import SIZES, fresh_network
from sqap_vla_ros.tools.training.optimisers import Optimisers
from sqap_vla_ros.tools.training.settings import TrainingError, TrainingSettings
from sqap_vla_ros.tools.training.shares import Shares
from sqap_vla_ros.vlm.statistics import STATISTICS_FILE, ActionStatistics, choose_statistics, read_statistics
from sqap_vla_ros.vlm.tokenizer import TOKENIZER_FILE, load_tokenizer
from sqap_vla_ros.vlm.weights import CheckpointError

STATE = "training.pt"
_HELD_OUT_FRAMES = 64
# A step's loss must be read from a GPU, which then waits: not every time.
_REPORT_EVERY = 10
# What is learned from a frame, and how; a training that began in another way is not gone on with.
_METHOD = 3
# What a training that goes on may be told anew: it may get longer.
_CHANGEABLE = ("samples",)


@dataclass(frozen=True)
class Progress:
    """Where a training is.

    Attributes:
        samples: Frames learned from so far.
        total: Frames in all.
        loss: Of the noise prediction, averaged over about a hundred steps.
        held_out: Of the last save.
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
    """Train until the settings' samples are seen, or until SIGINT or SIGTERM; go on when there is a state already.

    Every save leaves a complete run directory with the averaged weights, the learning curve, and the state to go on
    from.

    Args:
        demonstrations: What to learn from.
        directory: The run directory.
        settings: How.
        configuration: The robot's.
        device: Where to compute.
        command: What was typed, for config.json.
        save_every_s: Time between two saves.
        on_progress: Told where it is.

    Raises:
        TrainingError: The directory holds a training under other settings or on other demonstrations.
        KeyboardInterrupt: It was stopped by a signal; everything is saved.
    """
    # The background's pictures are small: cores are better used by the network.
    cv2.setNumThreads(1)
    trainer = _Trainer(demonstrations, directory, settings, configuration, torch.device(device), command)
    trainer.resume()
    with _signals() as stopped:
        trainer.run(stopped, save_every_s, on_progress)
    if stopped.is_set():
        raise KeyboardInterrupt


class _Trainer:
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
        self._convention = {
            "action convention of the robot": configuration.action.model_dump(mode="json"),
            "frames of the robot": configuration.frames.model_dump(mode="json"),
        }
        # Before anything is written.
        self._begun = self._read_state()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{directory}: cannot be made a run directory ({error.strerror})") from None
        write_small_tokenizer(directory, demonstrations.instructions)
        self._text = Text.of(load_tokenizer(directory), demonstrations.instructions)
        self._statistics = self._action_statistics()
        relative = configuration.action.gripper_relative
        self._samples = Samples(demonstrations.training, self._statistics, relative)
        held_out = Samples(demonstrations.held_out, self._statistics, relative).spread(_HELD_OUT_FRAMES)
        self._held_out = HeldOut(held_out, self._text, self._statistics, configuration)

        torch.manual_seed(settings.seed)
        self._size = SIZES[settings.size]
        network = fresh_network(self._size, len(self._text.vocabulary), settings.seed)
        self._learner = Learner(network).to(device)
        self._averaged = AveragedModel(self._learner, multi_avg_fn=_average(settings.average))
        self._optimisers = Optimisers(self._learner, settings.weight_decay)
        self._shares = Shares(self._learner, settings)
        self._step = 0
        self._seconds = 0.0
        self._curve: list[CurvePoint] = []

    def _action_statistics(self) -> ActionStatistics:
        """Of the demonstrations; of a training that begins with another's weights that one's: its outputs are in them.

        Raises:
            TrainingError: The other one cannot be read, or knows other instructions.
        """
        start_from = self._settings.start_from
        if not start_from:
            return action_statistics(self._demonstrations.training)
        earlier = self._directory if self._begun else Path(start_from)
        try:
            if (earlier / TOKENIZER_FILE).read_bytes() != (self._directory / TOKENIZER_FILE).read_bytes():
                raise TrainingError(f"{earlier} was trained on other instructions; begin without --start-from")
            return choose_statistics(read_statistics(earlier / STATISTICS_FILE), None)
        except (CheckpointError, OSError) as error:
            raise TrainingError(f"{earlier}: cannot begin with its weights ({in_one_line(error)})") from None

    @property
    def _identity(self) -> dict[str, Any]:
        told = {name: value for name, value in asdict(self._settings).items() if name not in _CHANGEABLE}
        return {**told, **self._convention, "demonstrations": self._demonstrations.sha256, "method": _METHOD}

    def _read_state(self) -> dict[str, Any] | None:
        """The state in the directory, if there is one.

        Raises:
            TrainingError: It is another training's or cannot be read, or there is a model without one.
        """
        path = self._directory / STATE
        if not path.is_file():
            if any(self._directory.glob("checkpoints/*")):
                raise TrainingError(
                    f"{self._directory}: holds a model, but no {STATE} to go on from; choose another --out"
                )
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            raise TrainingError(
                f"{path}: cannot be read ({in_one_line(error)}); remove the directory or choose another --out"
            ) from None
        if state["identity"].get("method") != _METHOD:
            raise TrainingError(
                f"{path}: its training was begun by another version, which learned in another way; begin anew with "
                "another --out (--start-from takes over its weights)"
            )
        for name, value in self._identity.items():
            if state["identity"].get(name) != value:
                raise TrainingError(
                    f"{path}: its training has {name} = {state['identity'].get(name)}, not {value}; give the same "
                    "command to go on, or another --out to begin anew"
                )
        return state

    def resume(self) -> None:
        """Take up the state in the directory, or begin with another training's weights, if there is one.

        Raises:
            TrainingError: The other one's weights cannot be used.
        """
        state, self._begun = self._begun, None
        if state is None:
            if self._settings.start_from:
                self._start(Path(self._settings.start_from))
            return
        self._learner.load_state_dict(state["learner"])
        self._averaged.load_state_dict(state["averaged"])
        self._optimisers.load_state_dict(state["optimisers"])
        self._step, self._seconds = state["step"], state["seconds"]
        self._curve = [
            replace(CurvePoint(**point), held_out=HeldOutErrors(**point["held_out"])) for point in state["curve"]
        ]

    def _start(self, earlier: Path) -> None:
        """Begin with the averaged weights of another training, auxiliary heads included.

        Raises:
            TrainingError: It has none, or they are of another size or for other instructions.
        """
        try:
            state = torch.load(earlier / STATE, map_location=self._device, weights_only=True)
            self._averaged.load_state_dict(state["averaged"])
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f"{earlier}: cannot begin with its weights ({str(error).splitlines()[0]}); give a directory that "
                "`sqap-vla train` made with the same --size and the same tasks"
            ) from None
        self._averaged.n_averaged.zero_()
        module: Any = self._averaged.module
        self._learner.load_state_dict(module.state_dict())

    def run(self, stopped: threading.Event, save_every_s: float, on_progress: Callable[[Progress], None]) -> None:
        """Steps, and saves in between."""
        settings = self._settings
        losses: dict[str, float] = defaultdict(float)
        found: dict[str, Tensor] = {}
        counted, smooth = 0, math.nan
        saved_step = self._step
        saved = begun = time.monotonic()
        before = self._seconds
        # On a CPU the network needs the cores; beside a GPU they have nothing else to do.
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

    def _learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One step of the optimisers."""
        losses = self._shares.backward(batch.to(self._device), draws.to(self._device))
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
        # Last: what goes on from here has its run directory.
        content = io.BytesIO()
        torch.save(
            {
                "identity": self._identity,
                "step": self._step,
                "seconds": self._seconds,
                "learner": self._learner.state_dict(),
                "averaged": self._averaged.state_dict(),
                "optimisers": self._optimisers.state_dict(),
                "curve": [asdict(point) for point in self._curve],
            },
            content,
        )
        write_whole(self._directory / STATE, content.getvalue())


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth at the last step."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = min(1.0, (step - settings.warm_up) / max(1, settings.steps - settings.warm_up))
    return settings.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def _average(decay: float) -> Callable[[Any, Any, Any], None]:
    """The exponential average, whose decay begins small: the first weights are soon forgotten."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        share = 1 - min(decay, (1 + count) / (10 + count))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, share)

    return update


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a step is finished and saved; elsewhere than in the main thread no
    signal arrives."""
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
