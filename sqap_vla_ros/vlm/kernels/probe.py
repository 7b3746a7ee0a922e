"""A trial run of the kernels on a GPU, before anything depends on them."""

import torch

from sqap_vla_ros.vlm.kernels.activations import rotate_quantise
from sqap_vla_ros.vlm.kernels.gemm import pack_halves, packed_gemm
from sqap_vla_ros.vlm.lowbit.integers import pack_nibbles

_TOKENS, _CHANNELS = 16, 64


def probe(device: torch.device) -> None:
    """Quantise and multiply a few numbers.

    Raises:
        RuntimeError: The integers differ from the CPU's; compilers and drivers may raise other errors.
    """
    values = torch.linspace(-3, 5, _TOKENS * _CHANNELS, device=device).view(_TOKENS, _CHANNELS)
    codes, scales = rotate_quantise(values, 16, 4)
    weights = (torch.arange(_CHANNELS**2) % 15 - 7).to(torch.int8).view(_CHANNELS, _CHANNELS)
    halves = pack_halves(pack_nibbles(weights)).to(device)
    sums = packed_gemm(codes, scales, halves, scales.new_ones(_CHANNELS, 1), out_dtype=torch.int32)
    if not torch.equal(sums.cpu().long(), codes.cpu().long() @ weights.long().T):
        raise RuntimeError("the integer product came out wrong in a trial")
