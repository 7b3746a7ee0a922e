"""Attention as two products and a softmax, for training on a CPU.

There the backward pass of torch's fused attention takes two to three times as long in bfloat16 (torch 2.13, Zen 4, 32
samples of 256 positions in two heads of 32 channels: 44 ms fused, 20 ms plain on one thread). Memory for the
probabilities is no concern at these sizes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class PlainAttention(TorchFunctionMode):
    """While entered, `scaled_dot_product_attention` computes in plain bfloat16 products."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace one function, and call the others."""
        if function is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention like torch's function, without dropout and grouped queries, which no trained network here has."""
    if dropout_p or enable_gqa:
        raise NotImplementedError("plain attention has neither dropout nor grouped queries")
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = query.bfloat16() @ key.bfloat16().transpose(-1, -2)
    if is_causal:
        rows, columns = scores.shape[-2:]
        scores = scores + torch.full((rows, columns), -torch.inf, dtype=scores.dtype).triu(1)
    elif attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return scores.softmax(-1) @ value.bfloat16()
