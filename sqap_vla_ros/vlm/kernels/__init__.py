"""The GPU's kernels, in Triton: `activations` (norm, rotate, quantise), `gemm` (the integer product), `rotary` and
`selection` (which visual tokens stay).

Nothing but the modules in here imports Triton, so that everything else works without it: call `require_triton` first
and import them afterwards. With `TRITON_INTERPRET=1`, set before Triton's first import, they run on the CPU, slowly, to
the same integers.
"""

import importlib.util
from functools import lru_cache

import torch

from sqap_vla_ros.core.gpu_failures import warn

# Integer tensor cores as the kernels use them (8 bit, 32-bit sums) and conversions from bfloat16: Ampere and later.
_LEAST_CAPABILITY = (8, 0)


class TritonUnavailable(RuntimeError):
    """The kernels cannot run here; the text says why and what to do."""


def require_triton(device: torch.device) -> None:
    """Check that the kernels can run on tensors of `device`.

    Raises:
        TritonUnavailable: Triton is not installed, or the device is no CUDA GPU (without the interpreter), or too old.
    """
    if importlib.util.find_spec("triton") is None:
        raise TritonUnavailable(
            "the GPU's integer kernels need the package `triton`, which is not installed; "
            "install PyTorch for CUDA, which brings it, or choose an execution that runs on the CPU"
        )
    import triton

    if triton.knobs.runtime.interpret:
        return
    if device.type != "cuda":
        raise TritonUnavailable(
            f"the GPU's integer kernels cannot run on device `{device}`: expected a CUDA GPU; "
            "move the model to `cuda`, or choose an execution that runs on the CPU"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < _LEAST_CAPABILITY:
        raise TritonUnavailable(
            f"{torch.cuda.get_device_name(device)} has compute capability {capability[0]}.{capability[1]}, too old for "
            f"the integer kernels: expected {_LEAST_CAPABILITY[0]}.{_LEAST_CAPABILITY[1]} or later (GeForce RTX 30, "
            "A100, Jetson Orin); choose another execution"
        )


def kernels_run_on(device: torch.device) -> bool:
    """Whether tensors of a device are a GPU's, and the kernels run on it: else the same is done in torch.

    The first question about a GPU compiles and runs two of them; that they do not work is logged, once.
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
