"""GPTQ: rounding a weight so that the layer's output, not the weight itself, changes least.

Columns are rounded one after another, and each takes up the errors of those before it, as far as the layer's inputs
allow (Frantar et al., "GPTQ", ICLR 2023). The order is that of falling input power: the columns that matter most are
rounded while the most others are left to make up for them.

It needs one Cholesky factor of H = XᵀX instead of one of H's inverse: with the columns in reverse order of rounding and
H = UᵀU, U upper triangular, column k is rounded after the errors E_j so far have been added to it as
Σ_{j>k} E_j U_kj / U_kk. Chee et al. ("QuIP", NeurIPS 2023, theorem 6) show this to be the same rounding.
"""

import torch
from torch import Tensor

from sqap_vla_ros.vlm.lowbit.integers import largest_code

# Shares of the mean of H's diagonal that are added to it. The first is the paper's; the others are for an H that is not
# numerically positive definite with the one before.
_DAMPINGS = (0.01, 0.1, 1.0)
_BLOCK = 128  # columns that are rounded one by one between two matrix products
_STRIP = 1024  # columns of H per matrix product that accumulates it


class RoundingError(ValueError):
    """Layer inputs on which a weight cannot be rounded; the message says why, and what to do."""


class InputStatistics:
    """Sums over a layer's inputs x: H = Σ xᵀx, and each channel's largest magnitude.

    Args:
        channels: Input channels of the layer.
        device: Where the sums are accumulated.

    Attributes:
        tokens: Number of inputs.
        absmax: float32 (channels,).
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        self.tokens = 0
        self.absmax = torch.zeros(channels, device=device)
        self._sum = torch.zeros(channels, channels, device=device)

    def add(self, inputs: Tensor) -> None:
        """Add a batch of inputs, float (..., channels)."""
        rows = inputs.detach().reshape(-1, inputs.shape[-1]).float()
        self.tokens += len(rows)
        torch.maximum(self.absmax, rows.abs().amax(0), out=self.absmax)
        # H is symmetric: what lies left of the diagonal is half of the work.
        for start in range(0, rows.shape[1], _STRIP):
            stop = start + _STRIP
            self._sum[start:stop, :stop].addmm_(rows[:, start:stop].T, rows[:, :stop])

    @property
    def hessian(self) -> Tensor:
        """H, float32 (channels, channels). It is not a copy, and is valid until the next `add`."""
        for stop in range(_STRIP, len(self._sum), _STRIP):
            self._sum[stop - _STRIP : stop, stop:] = self._sum[stop:, stop - _STRIP : stop].T
        return self._sum


def gptq(weight: Tensor, hessian: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Round a weight so that the output on the calibration inputs changes least.

    Args:
        weight: float32 (rows, columns), the layer's outputs by its inputs.
        hessian: float32 (columns, columns), H = XᵀX of the layer's inputs, up to a factor.
        scales: float32 (rows, 1).
        bits: Bits of a code.

    Returns:
        The codes, int8 (rows, columns).

    Raises:
        RoundingError: H is zero or not finite, or not positive semidefinite.
    """
    order = hessian.diagonal().argsort(stable=True)  # the last is rounded first
    factor = _unit_factor(hessian, order)
    row_scales, limit = scales.squeeze(1), largest_code(bits)
    # The weight's columns as rows, in that order: before its turn a row holds what later ones' errors add to it,
    # afterwards its own error.
    errors = torch.empty(weight.shape[1], weight.shape[0], device=weight.device)
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    for stop in range(len(order), 0, -_BLOCK):
        start = max(stop - _BLOCK, 0)
        torch.mm(factor[start:stop, stop:], errors[stop:], out=errors[start:stop])
        columns = order[start:stop]
        exact = weight[:, columns].T.contiguous()
        rounded = torch.empty_like(exact)
        for k in reversed(range(start, stop)):
            aim = torch.addmv(errors[k], errors[k + 1 : stop].T, factor[k, k + 1 : stop]).add_(exact[k - start])
            torch.div(aim, row_scales, out=rounded[k - start]).round_().clamp_(-limit, limit)
            torch.addcmul(exact[k - start], rounded[k - start], row_scales, value=-1, out=errors[k])
        codes[:, columns] = rounded.T.to(torch.int8)
    return codes


def _unit_factor(hessian: Tensor, order: Tensor) -> Tensor:
    """U with each row divided by its diagonal entry, where UᵀU is the damped H in the order given.

    A channel whose inputs are all zero has only its damping: it takes up no error and passes none on.
    """
    mean_power = hessian.diagonal().mean()
    if not (torch.isfinite(mean_power) and mean_power > 0):
        raise RoundingError(
            f"the layer's inputs have a mean power of {mean_power:g}, expected a positive number: look for NaN in the "
            "weights of the layers before it, or round to nearest, which needs no inputs"
        )
    for damping in _DAMPINGS:
        factor = hessian[order[:, None], order]
        factor.diagonal().add_(damping * mean_power)
        failed_at = torch.empty((), dtype=torch.int32, device=hessian.device)
        # The lower factor of a symmetric matrix that is transposed twice is the upper one, in place.
        torch.linalg.cholesky_ex(factor.mT, out=(factor.mT, failed_at))
        if failed_at == 0:
            return factor.div_(factor.diagonal().clone()[:, None])
    raise RoundingError(
        f"the inputs' matrix of products is not positive definite, even with {_DAMPINGS[-1]:g} of its mean power "
        "added to the diagonal: expected H = XᵀX"
    )
