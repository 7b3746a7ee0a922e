"""The GPU's kernels, in Triton.

    activations  norm or activation function, rotation and quantisation of tokens, in one launch
    gemm         the integer product
    weight_only  the product of float activations with 4-bit weights, to compare with
    rotary       rotary positions
    selection    which visual tokens stay
    few_rows     a whole linear layer for few tokens (the action head)
    launch       what all launches share
    probe        whether the kernels compile and compute correctly on this GPU

Only these modules import Triton, so that everything else works without it: call `require_triton` first and import them
afterwards. With `TRITON_INTERPRET=1`, set before Triton is imported, they run slowly on the CPU, to the same integers.
"""

import importlib.util
from functools import lru_cache

import torch

from sqap_vla_ros.core.gpu_failures import warn

# Ampere: the first GPUs with the tensor cores that the kernels use (8 bit, 32-bit sums) and bfloat16.
_LEAST_CAPABILITY = (8, 0)


class TritonUnavailable(RuntimeError):
    """The kernels cannot run here; the message says why and what to do."""


def require_triton(device: torch.device) -> None:
    """Check that the kernels can run on tensors of `device`.

    Raises:
        TritonUnavailable: Triton is not installed, or the device is not a CUDA GPU (without the interpreter), or is
            too old.
    """
    if importlib.util.find_spec("triton") is None:
        raise TritonUnavailable(
            "the GPU's integer kernels need the package `triton`, which is not installed; "
            "install PyTorch for CUDA, which brings it, or choose a backend that runs on the CPU"
        )
    import triton

    if triton.knobs.runtime.interpret:
        return
    if device.type != "cuda":
        raise TritonUnavailable(
            f"the GPU's integer kernels cannot run on device `{device}`: expected a CUDA GPU; "
            "move the model to `cuda`, or choose a backend that runs on the CPU"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < _LEAST_CAPABILITY:
        raise TritonUnavailable(
            f"{torch.cuda.get_device_name(device)} has compute capability {capability[0]}.{capability[1]}, too old for "
            f"the integer kernels: expected {_LEAST_CAPABILITY[0]}.{_LEAST_CAPABILITY[1]} or later (GeForce RTX 30, "
            "A100, Jetson Orin); choose another backend"
        )


def kernels_run_on(device: torch.device) -> bool:
    """Whether a device is a GPU on which the kernels run; otherwise torch computes the same.

    The first call for a GPU compiles and runs two kernels. A failure is logged once.
    """
    if device.type != "cuda":
        return False
    return _proved(torch.cuda.current_device() if device.index is None else device.index)


@lru_cache
def _proved(index: int) -> bool:
    device = torch.device("cuda", index)
    try:
        require_triton(device)
        from sqap_vla_ros.vlm.kernels.probe import probe

        probe(device)
    except Exception as error:  # whatever a driver or a compiler may say
        warn(f"planning without this project's kernels on GPU {index}, which is slower", error)
        return False
    return True
