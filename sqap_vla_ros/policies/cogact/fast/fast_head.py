"""The action head on a GPU: in half precision where that is accurate enough, and with few launches per block."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.policies.cogact.action_head import EPSILON, ActionHead, Block
from sqap_vla_ros.policies.cogact.diffusion import Ddim, sample
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.kernels import kernels_run_on
from sqap_vla_ros.vlm.runtime.fuse import fuse

# Largest relative difference of a chunk that float16 may cause: the tolerance of the parity tests of whole chunks.
_HEAD_TOLERANCE = 1e-2


class FusedHeadBlock(nn.Module):
    """A block of the action head in half precision, in five launches.

    Args:
        block: The block whose weights are used.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.attn, self.mlp = block.attn, block.mlp

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same shape."""
        batch, count, width = hidden.shape
        flat, heads = hidden.reshape(-1, width), self.attn.heads
        fused = _few(self.attn.qkv, flat, epsilon=EPSILON).view(batch, count, 3, heads, width // heads)
        queries, keys, values = fused.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        flat = _few(self.attn.proj, mixed.transpose(1, 2).reshape(-1, width), residual=flat)
        inner = _few(self.mlp.fc1, flat, epsilon=EPSILON, gelu=True)
        return _few(self.mlp.fc2, inner, residual=flat).view(hidden.shape)


def _few(
    linear: nn.Linear,
    values: Tensor,
    *,
    epsilon: float | None = None,
    gelu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    from sqap_vla_ros.vlm.kernels.few_rows import few_rows_linear

    return few_rows_linear(values, linear.weight, linear.bias, epsilon=epsilon, gelu=gelu, residual=residual)


def halved_action_head(head: ActionHead) -> tuple[ActionHead, float]:
    """The action head in float16 where that changes its chunks by less than 1 %, else the head that was given.

    Returns:
        The head, and the largest relative difference over three chunks from random conditions.
    """
    generator = torch.Generator().manual_seed(0)
    shape, device = head.shape, head.positional_embedding.device
    noise = torch.randn(3, shape.horizon, shape.action_dim, generator=generator).to(device)
    condition = torch.randn(3, 1, shape.token_size, generator=generator).to(device)
    with torch.inference_mode():
        exact = sample(Ddim(), head, noise, condition)
    try:
        # Copied on the host: both heads on the device would be the peak of a compressed network's memory there.
        halved = copy.deepcopy(head.cpu()).half().to(device)
        with torch.inference_mode():
            found = sample(Ddim(), halved, noise, condition)
    except Exception:
        head.to(device)  # the caller plans with it
        raise
    difference = float(((found - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).max())
    return halved if difference < _HEAD_TOLERANCE else head.to(device), difference


def fuse_action_head(head: ActionHead) -> None:
    """Fuse the blocks of an action head in half precision, on a device where the kernels run."""
    for index, block in enumerate(head.blocks):
        if isinstance(block, Block):
            head.blocks[index] = FusedHeadBlock(block).eval()


def make_fast(model: CogACT) -> float:
    """Fuse a network on a GPU, in place, with its action head in float16 if that is accurate enough.

    Returns:
        The relative difference that `halved_action_head` measured.
    """
    fuse(model.language, model.vision)
    model.action_head, difference = halved_action_head(model.action_head)
    halved = model.action_head.positional_embedding.dtype == torch.float16
    if halved and kernels_run_on(model.device):
        fuse_action_head(model.action_head)
    return difference
