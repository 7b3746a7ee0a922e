"""A GPU that cannot do its part: the plan comes another way, and the log says once why and what to do."""

import gc
import logging
from functools import lru_cache

import torch

from sqap_vla_ros.core.errors import GpuLost, in_one_line

_LOG = logging.getLogger(__name__)


def warn(consequence: str, error: Exception) -> None:
    """Log what a GPU's failure means for plans, and what to do about it."""
    _LOG.warning("%s: %s", consequence, advice(error))


def recover(device: torch.device) -> None:
    """Give back what a plan that failed held. Call it outside the `except` block, whose error holds it too.

    Raises:
        GpuLost: What failed was a kernel, and with it everything else that this process may ask of the GPU.
    """
    gc.collect()
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError as error:
        raise GpuLost(f"the GPU answers this process no more: {advice(error)}") from None


def advice(error: Exception) -> str:
    """What went wrong on a GPU, and what to do about it."""
    words = in_one_line(error)
    said = words.lower()
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return (
            f"the GPU is out of memory ({words}); end what else holds it (`nvidia-smi` lists it), or use a compressed "
            "checkpoint (`sqap-vla compress`)"
        )
    if "driver" in said and ("insufficient" in said or "too old" in said):
        return (
            f"the GPU's driver is too old for this build of torch ({words}); update the driver, or set up again with "
            "TORCH=auto, which goes by the driver"
        )
    if "no kernel image" in said:
        return (
            f"this build of torch has no code for this GPU ({words}); install one that supports it, or use device: cpu"
        )
    if "c compiler" in said:
        return f"Triton finds no C compiler ({words}); install one (`apt install gcc`)"
    return f"{words}; report it with the GPU's name and the driver's version (`nvidia-smi`)"


@lru_cache
def why_torch_has_no_gpu() -> str:
    """Advice where there is a driver that torch cannot use; empty where there is none, or torch is built without CUDA.

    Torch itself only says that no GPU is available.
    """
    if torch.version.cuda is None:
        return ""
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return "" if "no nvidia driver" in str(error).lower() else advice(error)
    return ""
