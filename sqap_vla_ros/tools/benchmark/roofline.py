"""What a device allows: the time below which no program plans, from its memory bandwidth and its arithmetic.

Each product of a plan takes at least the time to read its weights once and to do its multiplications. The floor is the
sum over all of them, because each needs the one before. Norms, softmax and launches cost nothing here, so a real
program stays above the floor. 4-bit operands are multiplied as 8-bit ones, as this project's kernels do on every GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqap_vla_ros.tools.benchmark.cost import STAGES, Product


@dataclass(frozen=True)
class Device:
    """Rates of a device.

    Attributes:
        name: Name of the device.
        bandwidth: Bandwidth of its memory, bytes per second.
        float_rate: Dense bfloat16 products with 32-bit sums, operations per second (2 per multiply-accumulate).
        int8_rate: Dense int8 products, operations per second.
    """

    name: str
    bandwidth: float
    float_rate: float
    int8_rate: float


# From the makers' data sheets: dense rates (half of those "with sparsity"), bfloat16 with 32-bit sums.
DATA_SHEETS = (
    Device("RTX 3090", 936e9, 71e12, 284e12),
    Device("RTX 4090", 1008e9, 165e12, 661e12),
    Device("RTX 5090", 1792e9, 209e12, 838e12),
    Device("Jetson AGX Orin", 205e9, 42.5e12, 85e12),
    Device("Jetson AGX Thor", 273e9, 258e12, 517e12),
    Device("H100 SXM", 3350e9, 989e12, 1979e12),
    Device("H200", 4800e9, 989e12, 1979e12),
)


def floor_s(product: Product, device: Device) -> float:
    """Least time of one product on a device, seconds."""
    rate = device.int8_rate if max(product.bits.weight, product.bits.activation) <= 8 else device.float_rate
    return max(2.0 * product.macs / rate, product.read_bytes / device.bandwidth)


def floors_s(products: Sequence[Product], device: Device) -> dict[str, float]:
    """Least time per stage, seconds."""
    return {stage: sum(floor_s(product, device) for product in products if product.stage == stage) for stage in STAGES}
