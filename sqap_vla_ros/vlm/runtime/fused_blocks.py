"""Decoder layers and vision blocks in few launches, with float or with integer linear layers."""

from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.vlm.runtime.fused_linears import GELU, NOTHING, SWIGLU, Fused, Prologue


class FusedDecoderLayer(nn.Module):
    """A `layers.DecoderLayer` with fused linear layers.

    Args:
        attention_input: Projects queries, keys and values.
        attention_output: Projects the mixed values.
        mlp_input: Projects gate and up.
        mlp_output: Projects down.
        norms: The norms in front of attention and MLP.
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
        """See `layers.DecoderLayer.project`."""
        queries, keys, values = self.attention_input(hidden, self.norms[0]).split(self.rows, dim=-1)
        return queries, keys, values

    def add_attention(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """See `layers.DecoderLayer.add_attention`."""
        return self.attention_output(mixed, NOTHING, hidden)

    def add_feed_forward(self, hidden: Tensor) -> Tensor:
        """See `layers.DecoderLayer.add_feed_forward`."""
        return self.mlp_output(self.mlp_input(hidden, self.norms[1]), SWIGLU, hidden)


class FusedTowerBlock(nn.Module):
    """A block of a vision tower with fused linear layers, which include the layer scales.

    Args:
        qkv: Projects queries, keys and values.
        proj: Projects the mixed values.
        fc1: First linear layer of the MLP.
        fc2: Second linear layer of the MLP.
        norms: The norms in front of attention and MLP.
        heads: Attention heads.
    """

    def __init__(
        self, qkv: Fused, proj: Fused, fc1: Fused, fc2: Fused, norms: tuple[Prologue, Prologue], heads: int
    ) -> None:
        super().__init__()
        self.qkv, self.proj, self.fc1, self.fc2 = qkv, proj, fc1, fc2
        self.norms, self.heads = norms, heads

    def forward(self, hidden: Tensor, mask: None = None) -> Tensor:
        """(batch, tokens, width) -> the same shape; `mask` is that of `transformers`' blocks."""
        batch, count, width = hidden.shape
        fused = self.qkv(hidden, self.norms[0]).view(batch, count, 3, self.heads, width // self.heads)
        queries, keys, values = fused.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        hidden = self.proj(mixed.transpose(1, 2).reshape(batch, count, width), NOTHING, hidden)
        return self.fc2(self.fc1(hidden, self.norms[1]), GELU, hidden)
