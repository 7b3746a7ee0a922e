"""Policies with one fault each; built in the worker's process, so each is an importable function."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.errors import GpuLost
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import PolicyNeeds
from sqap_vla_ros.testing.stub_policies import SleepingPolicy

Progress = Callable[[str], None]


class _Faulty(SleepingPolicy):
    """Plans well for the warm-up, then shows its fault."""

    def __init__(self) -> None:
        super().__init__(plan_s=0.01)
        self.plans = 0

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        self.plans += 1
        chunk = super().plan(observation, committed)
        return chunk if self.plans == 1 else self.fault(chunk)

    def fault(self, chunk: ActionChunk) -> ActionChunk:
        raise NotImplementedError


class _NotFinite(_Faulty):
    def fault(self, chunk: ActionChunk) -> ActionChunk:
        actions = chunk.actions.copy()
        actions[3:5, 1] = np.nan
        return replace(chunk, actions=actions)


class _Raising(_Faulty):
    def fault(self, chunk: ActionChunk) -> ActionChunk:
        raise RuntimeError("out of cheese")


class _LosingTheGpu(_Faulty):
    def fault(self, chunk: ActionChunk) -> ActionChunk:
        raise GpuLost("the GPU answers this process no more")


class _Dying(_Faulty):
    def fault(self, chunk: ActionChunk) -> ActionChunk:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


class _HangingOnce(_Faulty):
    def fault(self, chunk: ActionChunk) -> ActionChunk:
        if self.plans == 2:
            time.sleep(2.0)
        return chunk


class _OfTwoCameras(SleepingPolicy):
    """Needs two cameras and a state; its chunks say what it was told."""

    def __init__(self) -> None:
        super().__init__(plan_s=0.01)
        self.metadata = replace(self.metadata, needs=PolicyNeeds(cameras=2, state="tool", state_size=7))

    def plan(self, observation: Observation, committed: CommittedActions | None = None) -> ActionChunk:
        front, wrist = observation.views
        assert observation.state is not None and observation.state.shape == (7,)
        chunk = super().plan(observation, committed)
        if observation.stamp_ns:
            told = f"{front.image[0, 0, 0]} {wrist.image[0, 0, 0]} {observation.state[6]:g}"
            chunk = replace(chunk, instruction=told)
        return chunk


def two_cameras(configuration: Configuration, on_progress: Progress) -> SleepingPolicy:
    """Tells as its instruction the first pixel of each camera, and the finger's position."""
    return _OfTwoCameras()


def slow(configuration: Configuration, on_progress: Progress) -> SleepingPolicy:
    """Nothing wrong with it but that a plan takes 150 ms."""
    return SleepingPolicy(plan_s=0.15)


def not_finite(configuration: Configuration, on_progress: Progress) -> SleepingPolicy:
    """Gives NaN in two steps."""
    return _NotFinite()


def raising(configuration: Configuration, on_progress: Progress) -> SleepingPolicy:
    """Raises in every plan."""
    return _Raising()


def losing_the_gpu(configuration: Configuration, on_progress: Progress) -> SleepingPolicy:
    """Cannot plan any more, in this process."""
    return _LosingTheGpu()


def dying(configuration: Configuration, on_progress: Progress) -> SleepingPolicy:
    """Its process is killed, as for memory."""
    return _Dying()


def hanging_once(configuration: Configuration, on_progress: Progress) -> SleepingPolicy:
    """The second plan takes two seconds."""
    return _HangingOnce()


def failing_to_load(configuration: Configuration, on_progress: Progress) -> SleepingPolicy:
    """Cannot be built."""
    raise MemoryError("no room for the weights")


def loading_slowly(configuration: Configuration, on_progress: Progress) -> SleepingPolicy:
    """Takes two seconds until it is loaded."""
    on_progress("reading the weights")
    time.sleep(2.0)
    return SleepingPolicy(plan_s=0.01)
