"""The action head: a diffusion transformer (DiT) that predicts the noise in a chunk of actions.

Its blocks are pre-norm without adaptive norms; the condition is one token in front of the actions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.vlm.weights import Layout, Part, Shape, Source, attention_heads

EPSILON = 1e-6
_FREQUENCIES = 128

Blocks = Callable[[Tensor], Tensor]
"""A function in place of the blocks: the residual stream (batch, tokens, width) -> the same shape."""


@dataclass(frozen=True)
class ActionHeadShape:
    """Sizes of the action head.

    Attributes:
        width: Channels.
        depth: Blocks.
        heads: Attention heads.
        hidden: Channels inside the MLPs.
        token_size: Channels of the cognition feature.
        action_dim: Numbers per action.
        horizon: Actions per chunk.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    token_size: int
    action_dim: int
    horizon: int


def action_head_shape(part: Part, architecture: Mapping[str, int]) -> ActionHeadShape:
    """Read the sizes off the tensors (names with prefix `net.`).

    Raises:
        CheckpointError: Tensors that show the sizes are missing.
    """
    width = part.size(".attn.proj.weight", 0, 2)
    return ActionHeadShape(
        width=width,
        depth=part.depth("net.blocks."),
        heads=attention_heads("dit_heads", width, architecture),
        hidden=part.size(".mlp.fc1.weight", 0, 2),
        token_size=part.size("net.z_embedder.linear.weight", 1, 2),
        action_dim=part.size("net.final_layer.linear.weight", 0, 2),
        horizon=part.size("net.positional_embedding", 0, 2) - 1,
    )


def action_head_layout(shape: ActionHeadShape) -> Layout:
    """Published names and shapes of the action head's tensors."""
    width, hidden = shape.width, shape.hidden
    required: dict[str, Shape] = {
        "net.positional_embedding": (shape.horizon + 1, width),
        "net.z_embedder.uncondition": (1, shape.token_size),
    }
    linears: dict[str, Shape] = {
        "x_embedder.linear": (width, shape.action_dim),
        "t_embedder.mlp.0": (width, 2 * _FREQUENCIES),
        "t_embedder.mlp.2": (width, width),
        "z_embedder.linear": (width, shape.token_size),
        "final_layer.linear": (shape.action_dim, width),
    }
    for index in range(shape.depth):
        linears |= {
            f"blocks.{index}.attn.qkv": (3 * width, width),
            f"blocks.{index}.attn.proj": (width, width),
            f"blocks.{index}.mlp.fc1": (hidden, width),
            f"blocks.{index}.mlp.fc2": (width, hidden),
        }
    for name, size in linears.items():
        required |= {f"net.{name}.weight": size, f"net.{name}.bias": size[:1]}
    history = "net.history_embedder.linear."
    return Layout(required, {f"{history}weight": (width, shape.action_dim), f"{history}bias": (width,)})


class Attention(nn.Module):
    """Bidirectional self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same shape."""
        batch, count, width = hidden.shape
        fused = self.qkv(hidden).view(batch, count, 3, self.heads, width // self.heads)
        queries, keys, values = fused.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same shape."""
        return self.fc2(functional.gelu(self.fc1(hidden), approximate="tanh"))


class Block(nn.Module):
    """Attention and MLP, each on a layer norm without parameters."""

    def __init__(self, shape: ActionHeadShape) -> None:
        super().__init__()
        self.attn = Attention(shape.width, shape.heads)
        self.mlp = Mlp(shape.width, shape.hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same shape."""
        hidden = hidden + self.attn(_norm(hidden))
        return hidden + self.mlp(_norm(hidden))


class ConditionEmbedder(nn.Module):
    """Linear map of the cognition feature; classifier-free guidance uses `uncondition` in its place."""

    def __init__(self, token_size: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(token_size, width)
        self.uncondition = nn.Parameter(torch.empty(1, token_size))


class ActionHead(nn.Module):
    """The diffusion transformer; its parameters have the published names."""

    def __init__(self, shape: ActionHeadShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.positional_embedding = nn.Parameter(torch.empty(shape.horizon + 1, width))
        self.x_embedder = nn.ModuleDict({"linear": nn.Linear(shape.action_dim, width)})
        self.z_embedder = ConditionEmbedder(shape.token_size, width)
        self.t_embedder = nn.ModuleDict(
            {"mlp": nn.Sequential(nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))}
        )
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.depth)])
        self.final_layer = nn.ModuleDict({"linear": nn.Linear(width, shape.action_dim)})

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            x: (batch, horizon, action_dim), noisy actions.
            t: int64 (batch,), step of the 100-step process.
            z: (batch, 1, token_size), cognition feature.

        Returns:
            (batch, horizon, action_dim).
        """
        return self.predict(x, self.embed_steps(t), self.embed_condition(z))

    def forward_with_guidance(self, x: Tensor, t: Tensor, z: Tensor, guidance: float) -> Tensor:
        """Predict the noise with classifier-free guidance; arguments as in `forward`, result (batch, ...)."""
        return self.predict_guided(x, self.embed_steps(t), self.embed_both_conditions(z), guidance)

    def embed_steps(self, t: Tensor) -> Tensor:
        """Embedding of diffusion steps: int64 (n,) -> (n, width)."""
        features = step_features(t).to(self.positional_embedding.dtype)
        return self.t_embedder["mlp"](features)

    def embed_condition(self, z: Tensor) -> Tensor:
        """Embedding of the cognition feature: (batch, 1, token_size) -> (batch, width)."""
        return self.z_embedder.linear(z.to(self.positional_embedding.dtype))[:, 0]

    def embed_both_conditions(self, z: Tensor) -> Tensor:
        """The condition's and then the null condition's embeddings: (batch, 1, token_size) -> (2 batch, width)."""
        null = self.z_embedder.uncondition.expand(len(z), 1, -1)
        return self.embed_condition(torch.cat((z.to(null.dtype), null)))

    def predict(self, x: Tensor, step: Tensor, condition: Tensor, blocks: Blocks | None = None) -> Tensor:
        """Predict the noise from embedded steps (batch or 1, width) and conditions (batch, width).

        `blocks` is called in place of `run_blocks`.
        """
        return self._denoise(self._embed_actions(x), step + condition, blocks or self.run_blocks).to(x.dtype)

    def predict_guided(
        self, x: Tensor, step: Tensor, conditions: Tensor, guidance: float, blocks: Blocks | None = None
    ) -> Tensor:
        """Classifier-free guidance, `uncond + guidance · (cond − uncond)` on all channels.

        Args:
            x: (batch, horizon, action_dim).
            step: (batch or 1, width), embedded step.
            conditions: (2 batch, width), from `embed_both_conditions`.
            guidance: Scale.
            blocks: Called in place of `run_blocks`; None: `run_blocks`.

        Returns:
            (batch, horizon, action_dim).
        """
        # Both halves of the batch denoise the same actions.
        actions = self._embed_actions(x).repeat(2, 1, 1)
        steps = step if len(step) == 1 else step.repeat(2, 1)
        predicted = self._denoise(actions, steps + conditions, blocks or self.run_blocks)
        conditional, unconditional = predicted.to(x.dtype).chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def run_blocks(self, hidden: Tensor) -> Tensor:
        """All blocks: (batch, tokens, width) -> the same shape."""
        for block in self.blocks:
            hidden = block(hidden)
        return hidden

    def _embed_actions(self, x: Tensor) -> Tensor:
        # A head in half precision also takes and returns the float32 of the sampler.
        return self.x_embedder["linear"](x.to(self.positional_embedding.dtype))

    def _denoise(self, actions: Tensor, condition: Tensor, blocks: Blocks) -> Tensor:
        hidden = torch.cat((condition[:, None], actions), dim=1) + self.positional_embedding
        return self.final_layer["linear"](_norm(blocks(hidden)))[:, 1:]


def step_features(t: Tensor) -> Tensor:
    """Sinusoids of diffusion steps: int64 (n,) -> float32 (n, 256), cosines first."""
    exponents = torch.arange(_FREQUENCIES, dtype=torch.float32, device=t.device) / _FREQUENCIES
    angles = t[:, None].float() * torch.exp(-math.log(10000) * exponents)
    return torch.cat((angles.cos(), angles.sin()), dim=1)


def _norm(hidden: Tensor) -> Tensor:
    return functional.layer_norm(hidden, hidden.shape[-1:], eps=EPSILON)


def load_action_head(
    part: Part, architecture: Mapping[str, int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> ActionHead:
    """Build the action head from the `action_model` part of a checkpoint.

    Raises:
        CheckpointError: The tensors are not those of an action head.
    """
    shape = action_head_shape(part, architecture)
    part.check(action_head_layout(shape))
    with torch.device("meta"):
        head = ActionHead(shape)
    part.load(head, lambda name: Source(f"net.{name}"), dtype, device)
    return head
