"""Which device a network runs on."""

import logging
from functools import lru_cache

import torch

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.core.gpu_failures import why_torch_has_no_gpu

_LOG = logging.getLogger(__name__)


def choose_device(wanted: str) -> str:
    """The device for a setting.

    Args:
        wanted: "auto", "cuda" or "cpu".

    Returns:
        "cuda" or "cpu".

    Raises:
        ConfigurationError: "cuda" is wanted, but there is no CUDA GPU.
    """
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    reason = why_torch_has_no_gpu()
    if wanted == "cuda":
        because = f" ({reason})" if reason else ""
        raise ConfigurationError(f"device = cuda, but torch finds no CUDA GPU here{because}; use auto or cpu")
    if reason:
        _warn_once(f"planning on the CPU, which takes seconds: {reason}")
    return "cpu"


@lru_cache
def _warn_once(message: str) -> None:
    _LOG.warning(message)
