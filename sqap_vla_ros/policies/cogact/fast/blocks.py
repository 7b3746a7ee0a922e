"""The blocks of language model, towers and action head in few launches, with float or with integer linear layers."""

from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.policies.cogact.action_head import EPSILON, Block
from sqap_vla_ros.vlm.lowbit.fused_linears import GELU, NOTHING, SWIGLU, Fused, Prologue


class FusedDecoderLayer(nn.Module):
    """`cogact.language.DecoderLayer` with fused linear layers.

    Args:
        attention_input: Queries, keys and values.
        attention_output: Of the mixture.
        mlp_input: Gate and up.
        mlp_output: Down.
        norms: In front of attention and MLP.
        rows: Output channels of queries, keys and values.
    """

    def __init__(
        self,
        attention_input: Fused,
        attention_output: Fused,
        mlp_input: Fused,
        mlp_output: Fused,
        norms: tuple[Prologue, Prologue],
        rows: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.attention_input, self.attention_output = attention_input, attention_output
        self.mlp_input, self.mlp_output = mlp_input, mlp_output
        self.norms, self.rows = norms, rows

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `DecoderLayer.project`."""
        queries, keys, values = self.attention_input(hidden, self.norms[0]).split(self.rows, dim=-1)
        return queries, keys, values

    def add_attention(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """As `DecoderLayer.add_attention`."""
        return self.attention_output(mixed, NOTHING, hidden)

    def add_feed_forward(self, hidden: Tensor) -> Tensor:
        """As `DecoderLayer.add_feed_forward`."""
        return self.mlp_output(self.mlp_input(hidden, self.norms[1]), SWIGLU, hidden)


class FusedTowerBlock(nn.Module):
    """A block of a vision tower with fused linear layers; layer scales, where there are any, are in the linear layers.

    Args:
        qkv: Queries, keys and values.
        proj: Of the mixture.
        fc1: First of the MLP.
        fc2: Second of the MLP.
        norms: In front of attention and MLP.
        heads: Attention heads.
    """

    def __init__(
        self, qkv: Fused, proj: Fused, fc1: Fused, fc2: Fused, norms: tuple[Prologue, Prologue], heads: int
    ) -> None:
        super().__init__()
        self.qkv, self.proj, self.fc1, self.fc2 = qkv, proj, fc1, fc2
        self.norms, self.heads = norms, heads

    def forward(self, hidden: Tensor, mask: None = None) -> Tensor:
        """(batch, tokens, width) -> the same; `mask` is that of `transformers`' blocks, which nothing here sets."""
        batch, count, width = hidden.shape
        fused = self.qkv(hidden, self.norms[0]).view(batch, count, 3, self.heads, width // self.heads)
        queries, keys, values = fused.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        hidden = self.proj(mixed.transpose(1, 2).reshape(batch, count, width), NOTHING, hidden)
        return self.fc2(self.fc1(hidden, self.norms[1]), GELU, hidden)


class FusedHeadBlock(nn.Module):
    """A block of the action head in half precision: five launches.

    Args:
        block: The block, whose weights are used.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.attn, self.mlp = block.attn, block.mlp

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same."""
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
