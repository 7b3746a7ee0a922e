"""A weight matrix in low-bit integers, as it is stored.

Row r (an output channel) is W_r ≈ scale_r · codes_r. Rows may have different widths: 4 and 8 bits, bfloat16, or none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sqap_vla_ros.vlm.lowbit.integers import absmax_scales, pack_nibbles, quantise, searched_scales, unpack_nibbles

WEIGHT_FIELDS = ("packed", "wide", "full", "scales", "order")
CHANNEL_BITS = (0, 2, 4, 8, 16)
"""Widths that a row of a mixed-precision weight can have."""


@dataclass(frozen=True)
class QuantisedWeight:
    """The rows (output channels) of a linear layer, grouped by their width.

    Most weights have one group. With mixed precision each row is in one of the groups, or in none and its output is
    zero.

    Attributes:
        rows: Output channels of the layer.
        packed: uint8 (n4, columns / 2), rows of 4-bit and 2-bit codes, two codes per byte.
        wide: int8 (n8, columns), rows of 8-bit codes.
        full: bfloat16 (n16, columns), rows that are not quantised.
        scales: float32 (n4 + n8, 1), scales of the rows of codes.
        order: int64 (n4 + n8 + n16,), the output channel of each stored row; None: all rows, in order.
    """

    rows: int
    packed: Tensor
    wide: Tensor
    full: Tensor
    scales: Tensor
    order: Tensor | None = None

    @property
    def columns(self) -> int:
        """Input channels of the layer."""
        return self.wide.shape[1]

    @property
    def codes(self) -> Tensor:
        """int8 (n4 + n8, columns), all rows of codes in the order of `scales`."""
        return torch.cat((unpack_nibbles(self.packed), self.wide))

    @property
    def nbytes(self) -> int:
        """Bytes as stored."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    @property
    def mean_bits(self) -> float:
        """Stored bits per weight, without the scales."""
        weights = (self.packed, self.wide, self.full)
        return 8 * sum(tensor.nbytes for tensor in weights) / (self.rows * self.columns)

    def dequantised(self) -> Tensor:
        """The matrix that the codes represent, float32 (rows, columns)."""
        stored = torch.cat((self.codes.float() * self.scales, self.full.float()))
        if self.order is None:
            return stored
        return stored.new_zeros(self.rows, self.columns).index_copy_(0, self.order, stored)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that a file holds, by attribute; empty groups are left out.

        An empty `order` is kept: it means that all rows are dropped.
        """
        named = {name: getattr(self, name) for name in WEIGHT_FIELDS}
        present = {name: tensor for name, tensor in named.items() if tensor is not None}
        return {name: tensor for name, tensor in present.items() if tensor.numel() or name == "order"}

    def slice(self, start: int, end: int) -> "QuantisedWeight":
        """Some of the rows of a weight that has one group.

        Raises:
            ValueError: The rows have several widths.
        """
        if self.order is not None:
            raise ValueError("rows of mixed widths cannot be sliced; slice before they are grouped")
        groups = {name: getattr(self, name)[start:end] for name in WEIGHT_FIELDS[:4]}
        return QuantisedWeight(end - start, **groups)


def weight_from_tensors(tensors: Mapping[str, Tensor], rows: int, columns: int) -> QuantisedWeight:
    """The weight whose `QuantisedWeight.tensors` are given."""
    device = next(iter(tensors.values())).device if tensors else None
    empty = {
        "packed": torch.empty(0, columns // 2, dtype=torch.uint8, device=device),
        "wide": torch.empty(0, columns, dtype=torch.int8, device=device),
        "full": torch.empty(0, columns, dtype=torch.bfloat16, device=device),
        "scales": torch.empty(0, 1, device=device),
    }
    return QuantisedWeight(rows, **{**empty, **tensors})


def weight_from_codes(codes: Tensor, scales: Tensor, bits: int) -> QuantisedWeight:
    """A weight whose rows all have the same width.

    Args:
        codes: int8 (rows, columns).
        scales: float32 (rows, 1).
        bits: 4 or 8.
    """
    stored = {"packed": pack_nibbles(codes)} if bits == 4 else {"wide": codes.contiguous()}
    return weight_from_tensors({**stored, "scales": scales}, *codes.shape)


def round_to_nearest(weight: Tensor, bits: int, *, search: bool = True) -> QuantisedWeight:
    """Quantise a weight without calibration data.

    Args:
        weight: float32 (rows, columns).
        bits: 4 or 8.
        search: Whether to clip each row where its squared error is least, instead of at its largest magnitude.
    """
    scales = searched_scales(weight, bits) if search else absmax_scales(weight, bits)
    return weight_from_codes(quantise(weight, scales, bits), scales, bits)


def mixed_weight(weight: Tensor, channel_bits: Tensor) -> QuantisedWeight:
    """Round each row to its own width (QVLA), with symmetric scales at its largest magnitude.

    Args:
        weight: float32 (rows, columns).
        channel_bits: uint8 (rows,), each one of `CHANNEL_BITS`: 0 drops the row, 2 is stored in a 4-bit container, 16
            is bfloat16.
    """
    rows = {bits: torch.nonzero(channel_bits == bits).flatten() for bits in CHANNEL_BITS}
    scales = {bits: absmax_scales(weight[rows[bits]], bits) for bits in (2, 4, 8)}
    codes = {bits: quantise(weight[rows[bits]], scales[bits], bits) for bits in (2, 4, 8)}
    return QuantisedWeight(
        rows=len(weight),
        packed=pack_nibbles(torch.cat((codes[2], codes[4]))),
        wide=codes[8],
        full=weight[rows[16]].to(torch.bfloat16),
        scales=torch.cat((scales[2], scales[4], scales[8])),
        order=torch.cat([rows[bits] for bits in CHANNEL_BITS[1:]]),
    )


def concatenate(weights: Sequence[QuantisedWeight]) -> QuantisedWeight:
    """The rows of several weights that take the same input, as one weight."""
    if len(weights) == 1:
        return weights[0]
    uniform = all(weight.order is None for weight in weights)
    if uniform and sum(any(getattr(weight, name).numel() for weight in weights) for name in WEIGHT_FIELDS[:3]) == 1:
        order = None
    else:
        order = _joint_order(weights)
    codes = [weight.scales.split([len(weight.packed), len(weight.wide)]) for weight in weights]
    scales = torch.cat([four for four, _ in codes] + [eight for _, eight in codes])
    groups = {name: torch.cat([getattr(weight, name) for weight in weights]) for name in WEIGHT_FIELDS[:3]}
    return QuantisedWeight(sum(weight.rows for weight in weights), **groups, scales=scales, order=order)


def _joint_order(weights: Sequence[QuantisedWeight]) -> Tensor:
    by_width: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    start = 0
    for weight in weights:
        order = torch.arange(weight.rows) if weight.order is None else weight.order
        lengths = [len(weight.packed), len(weight.wide), len(weight.full)]
        for group, part in zip(by_width, (order + start).split(lengths), strict=True):
            group.append(part)
        start += weight.rows
    return torch.cat([part for group in by_width for part in group])
