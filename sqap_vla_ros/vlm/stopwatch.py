"""Measures the stages of a plan."""

import time

import torch


class Stopwatch:
    """Seconds per stage, including the device's work.

    Attributes:
        timings_s: Seconds by stage, in the order they ran.
    """

    def __init__(self, device: torch.device) -> None:
        self.timings_s: dict[str, float] = {}
        self._device = device
        self._before = time.perf_counter()

    def stage(self, name: str) -> None:
        """End a stage; the next one begins. A stage that runs again adds to its time."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.timings_s[name] = self.timings_s.get(name, 0.0) + now - self._before
        self._before = now
