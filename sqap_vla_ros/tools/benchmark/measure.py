"""Times on a device, its memory, and the rates that a roofline needs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from sqap_vla_ros.tools.benchmark.roofline import Device

_WARM_UPS = 3
_GIB = 2**30


@dataclass(frozen=True)
class Timing:
    """Times of repeated runs of one function.

    Attributes:
        median_ms: Median, milliseconds.
        p99_ms: 99th percentile, milliseconds.
        repeats: Number of runs.
    """

    median_ms: float
    p99_ms: float
    repeats: int


def measure(function: Callable[[], object], repeats: int, device: torch.device, *, wall: bool = False) -> Timing:
    """Time a function.

    Args:
        function: What is timed; a few more runs come before those that count.
        repeats: Runs that count.
        device: On a CUDA GPU its own clock is used, through events.
        wall: Use the host's clock instead, from the call until the device is done: what a caller waits.
    """
    for _ in range(_WARM_UPS):
        function()
    if device.type != "cuda" or wall:
        milliseconds = []
        for _ in range(repeats):
            synchronise(device)
            started = time.perf_counter()
            function()
            synchronise(device)
            milliseconds.append(1e3 * (time.perf_counter() - started))
    else:
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        synchronise(device)
        for before, after in events:
            before.record()
            function()
            after.record()
        synchronise(device)
        milliseconds = [before.elapsed_time(after) for before, after in events]
    return Timing(float(np.median(milliseconds)), float(np.percentile(milliseconds, 99)), repeats)


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """Name of a device for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def measured_rates(device: torch.device) -> Device:
    """Measure the bandwidth of a copy and the rates of large matrix products, the best of several runs."""
    cuda = device.type == "cuda"
    size, side, repeats = (2**30, 8192, 10) if cuda else (2**27, 1024, 3)
    # Random numbers, because zeros are copied faster.
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = 2 * size / _best_s(lambda: target.copy_(source), repeats, device)
    left = torch.randn(side, side, device=device).bfloat16()
    rate = 2 * side**3 / _best_s(lambda: left @ left, repeats, device)
    codes = torch.randint(-127, 128, (side, side), dtype=torch.int8, device=device)
    int8_rate = 2 * side**3 / _best_s(lambda: torch._int_mm(codes, codes.T), repeats, device)
    return Device(f"{device_name(device)}, measured", copied, rate, int8_rate)


def _best_s(function: Callable[[], object], repeats: int, device: torch.device) -> float:
    for _ in range(_WARM_UPS):
        function()
    return min(1e-3 * measure(function, 1, device).median_ms for _ in range(repeats))


class Memory:
    """The most memory that the allocator has handed out since `__init__`; the CUDA context is not included."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._most = 0
        if device.type == "cuda":
            # cuBLAS never gives back its working memory by itself.
            torch._C._cuda_clearCublasWorkspaces()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave out the memory that is used within this block."""
        if self._device.type != "cuda":
            yield
            return
        self._most = max(self._most, torch.cuda.max_memory_allocated(self._device))
        yield
        torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def peak_gib(self) -> float | None:
        """The most memory so far, GiB; None on a CPU."""
        if self._device.type != "cuda":
            return None
        return max(self._most, torch.cuda.max_memory_allocated(self._device)) / _GIB

    @property
    def context_gib(self) -> float | None:
        """Memory of the CUDA context and of other processes, GiB; None on a CPU."""
        if self._device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self._device)
        return (total - free - torch.cuda.memory_reserved(self._device)) / _GIB
