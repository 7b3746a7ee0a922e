"""A weight whose rows have different widths (QVLA)."""

import torch
from torch import Tensor

from sqap_vla_ros.vlm.lowbit.integers import absmax_scales, pack_nibbles, quantise
from sqap_vla_ros.vlm.lowbit.weight import QuantisedWeight

BITS = (0, 2, 4, 8, 16)


def mixed_weight(weight: Tensor, channel_bits: Tensor) -> QuantisedWeight:
    """Round each row to its own width, by symmetric scales at its largest magnitude.

    Args:
        weight: float32 (rows, columns).
        channel_bits: uint8 (rows,), each of `BITS`: 0 removes the row, 2 lies in the 4-bit container, 16 is bfloat16.
    """
    rows = {bits: torch.nonzero(channel_bits == bits).flatten() for bits in BITS}
    scales = {bits: absmax_scales(weight[rows[bits]], bits) for bits in (2, 4, 8)}
    codes = {bits: quantise(weight[rows[bits]], scales[bits], bits) for bits in (2, 4, 8)}
    return QuantisedWeight(
        rows=len(weight),
        packed=pack_nibbles(torch.cat((codes[2], codes[4]))),
        wide=codes[8],
        full=weight[rows[16]].to(torch.bfloat16),
        scales=torch.cat((scales[2], scales[4], scales[8])),
        order=torch.cat([rows[bits] for bits in BITS[1:]]),
    )
