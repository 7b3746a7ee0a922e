"""How large a network is whose linear layers may be low-bit: these are no parameters to torch."""

from torch import nn

from sqap_vla_ros.vlm.lowbit.linear import QuantLinear


def parameter_count(network: nn.Module) -> int:
    """Number of weights, of every dtype."""
    return sum(p.numel() for p in network.parameters()) + sum(m.rows * m.columns for m in _quantised(network))


def memory_bytes(network: nn.Module) -> int:
    """Bytes of memory of the weights."""
    return sum(p.nbytes for p in network.parameters()) + sum(m.weight_bytes for m in _quantised(network))


def _quantised(network: nn.Module) -> list[QuantLinear]:
    return [module for module in network.modules() if isinstance(module, QuantLinear)]
