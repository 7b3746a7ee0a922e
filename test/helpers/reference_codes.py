"""Reference in torch of the kernel that makes codes of activations."""

from torch import Tensor

from sqap_vla_ros.vlm.lowbit.hadamard import rotate
from sqap_vla_ros.vlm.lowbit.integers import absmax_scales, quantise
from sqap_vla_ros.vlm.lowbit.linear import InputFormat
from sqap_vla_ros.vlm.runtime.fused_linears import Prologue


def reference_codes(values: Tensor, prologue: Prologue, input_format: InputFormat) -> tuple[Tensor, Tensor]:
    """What `IntegerLinear.quantise_input` computes, in torch and float32: the reference of its kernel."""
    exact = Prologue(
        prologue.epsilon,
        None if prologue.gain is None else prologue.gain.float(),
        None if prologue.shift is None else prologue.shift.float(),
        prologue.function,
    )
    rotated = rotate(exact(values.float()), input_format.block)
    scales = absmax_scales(rotated, input_format.bits, input_format.clip)
    return quantise(rotated, scales, input_format.bits), scales


def rotate_quantise_in_torch(
    values: Tensor, block: int, bits: int, clip: float, **prologue: object
) -> tuple[Tensor, Tensor]:
    """Replaces `rotate_quantise`, which takes the interpreter some ten milliseconds per token."""
    return reference_codes(values, Prologue(**prologue), InputFormat(bits, block, clip))  # type: ignore[arg-type]
