"""The final norm of a residual stream that was rotated offline."""

from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.vlm.language import EPSILON
from sqap_vla_ros.vlm.lowbit.hadamard import rotate


class RotatedNorm(nn.Module):
    """The final norm of a rotated residual stream; it rotates the hidden state back to the published basis.

    Args:
        gain: (width,).
        block: Channels of a Hadamard block of the stream.
        epsilon: Of the norm.
    """

    def __init__(self, gain: Tensor, block: int, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(gain, requires_grad=False)
        self.block = block

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        return rotate(functional.rms_norm(hidden, hidden.shape[-1:], None, self.epsilon), self.block) * self.weight
