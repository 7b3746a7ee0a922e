"""Whether the kernels compile and compute here: asked once, before anything depends on them."""

import torch

from sqap_vla_ros.vlm.kernels.activations import rotate_quantise
from sqap_vla_ros.vlm.kernels.gemm import pack_halves, packed_gemm
from sqap_vla_ros.vlm.lowbit.integers import pack_nibbles

_TOKENS, _CHANNELS = 16, 64


def probe(device: torch.device) -> None:
    """Quantise and multiply a few numbers.

    Raises:
        RuntimeError: Other integers came out than the CPU's; or whatever a compiler or a driver may raise.
    """
    values = torch.linspace(-3, 5, _TOKENS * _CHANNELS, device=device).view(_TOKENS, _CHANNELS)
    codes, scales = rotate_quantise(values, 16, 4)
    weights = (torch.arange(_CHANNELS**2) % 15 - 7).to(torch.int8).view(_CHANNELS, _CHANNELS)
    halves = pack_halves(pack_nibbles(weights)).to(device)
    sums = packed_gemm(codes, scales, halves, scales.new_ones(_CHANNELS, 1), out_dtype=torch.int32)
    if not torch.equal(sums.cpu().long(), codes.cpu().long() @ weights.long().T):
        raise RuntimeError("the integer product came out wrong in a trial")
