"""Where a network is loaded to, and in which number format."""

import os
from collections.abc import Callable
from typing import TypeVar

import torch

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.gpu_failures import advice, warn
from sqap_vla_ros.vlm.runtime.device import choose_device

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Loaded = TypeVar("Loaded")


def number_format(precision: str, device: str) -> tuple[str, torch.dtype]:
    """Name and dtype of a policy file's `precision` on a device."""
    auto = "float32" if device == "cpu" else "bfloat16"
    name = auto if precision == "auto" else precision
    return name, _DTYPES[name]


def load_where_it_runs(configuration: Configuration, load: Callable[[str], Loaded]) -> Loaded:
    """Load on the configured device; with "auto", on the CPU if the GPU fails.

    Args:
        configuration: Device and threads.
        load: Loads on a device, by its name.

    Raises:
        ConfigurationError: The device is "cuda", and it fails.
    """
    if choose_device(configuration.device) == "cuda":
        try:
            return load("cuda")
        except RuntimeError as error:  # of torch: no memory, no code for this GPU, a driver that fails
            if configuration.device == "cuda":
                raise ConfigurationError(f"device = cuda: {advice(error)}; or let device be auto or cpu") from error
            warn("planning on the CPU, which takes seconds", error)
        torch.cuda.empty_cache()
    torch.set_num_threads(configuration.torch_threads or max(1, len(os.sched_getaffinity(0)) - 1))
    return load("cpu")
