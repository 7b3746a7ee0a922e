"""What OpenVLA-OFT adds to the vision-language model: projectors into its sequence, and a head behind it.

Each is a file of its own in a published directory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sqap_vla_ros.vlm.weights import CheckpointError, Layout, Part, Shape, Source

_BLOCKS = 2
# Prefix of a head's tensors -> what the head predicts.
_PREFIXES = {"model.": "actions", "noise_predictor.mlp_resnet.": "noise"}


@dataclass(frozen=True)
class HeadShape:
    """Sizes of the head.

    Attributes:
        width: Channels of the language model.
        action_dim: Numbers per action.
        hidden: Channels inside the head.
    """

    width: int
    action_dim: int
    hidden: int


class ResidualBlock(nn.Module):
    """A linear layer on a norm, with ReLU behind it, around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        return hidden + self.ffn(hidden)


class ActionMlp(nn.Module):
    """Hidden states of one action's slots to that action; its parameters have the published names.

    The L1 head predicts actions with it, the diffusion head the noise in them.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape
        self.layer_norm1 = nn.LayerNorm(shape.action_dim * shape.width)
        self.fc1 = nn.Linear(shape.action_dim * shape.width, shape.hidden)
        self.mlp_resnet_blocks = nn.ModuleList([ResidualBlock(shape.hidden) for _ in range(_BLOCKS)])
        self.layer_norm2 = nn.LayerNorm(shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.action_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """Predict a chunk.

        Args:
            hidden: (batch, chunk * action_dim, width), one row per slot, time-major.

        Returns:
            (batch, chunk, action_dim), neither squashed nor clipped.
        """
        actions = hidden.reshape(len(hidden), -1, self.shape.action_dim * self.shape.width)
        inner = functional.relu(self.fc1(self.layer_norm1(actions)))
        for block in self.mlp_resnet_blocks:
            inner = block(inner)
        return self.fc2(self.layer_norm2(inner))


class TokenProjector(nn.Module):
    """Numbers to an embedding: two linear layers with exact GELU in between."""

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.fc1, self.fc2 = nn.Linear(numbers, width), nn.Linear(width, width)

    def forward(self, numbers: Tensor) -> Tensor:
        """(..., numbers) -> (..., width)."""
        return self.fc2(functional.gelu(self.fc1(numbers)))


def head_predicts(part: Part) -> str:
    """What a head predicts: "actions" (L1) or "noise" (diffusion).

    Raises:
        CheckpointError: The tensors are not those of a head.
    """
    found = {kind for prefix, kind in _PREFIXES.items() if all(name.startswith(prefix) for name in part.tensors)}
    if len(found) != 1 or not part.tensors:
        names = ", ".join(list(part.tensors)[:3])
        raise CheckpointError(
            f"{part.name}: neither an L1 head (names begin with 'model.') nor a diffusion head "
            f"('noise_predictor.mlp_resnet.'); its tensors are {names}, …"
        )
    return found.pop()


def load_action_mlp(
    part: Part, width: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> ActionMlp:
    """Build a head from its file.

    Args:
        part: The tensors, without `module.`.
        width: Channels of the language model.
        dtype: Dtype of the head.
        device: Device of the head.

    Raises:
        CheckpointError: The tensors are not those of a head over this language model.
    """
    prefix, shape = _prefix(part), head_shape(part, width)
    part.check(_action_mlp_layout(prefix, shape))
    with torch.device("meta"):
        head = ActionMlp(shape)
    part.load(head, lambda name: Source(prefix + name), dtype, device)
    return head


def head_shape(part: Part, width: int) -> HeadShape:
    """Read the sizes off the tensors; arguments and errors as in `load_action_mlp`."""
    prefix = _prefix(part)
    slots, hidden = part.size(f"{prefix}layer_norm1.weight", 0, 1), part.size(f"{prefix}fc1.weight", 0, 2)
    if slots % width:
        raise CheckpointError(f"{part.name}: {slots} inputs, expected a multiple of the language model's {width}")
    return HeadShape(width, slots // width, hidden)


def _prefix(part: Part) -> str:
    return next(prefix for prefix, kind in _PREFIXES.items() if kind == head_predicts(part))


def load_token_projector(
    part: Part, width: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> TokenProjector:
    """Build a projector from its file; arguments and errors as in `load_action_mlp`."""
    numbers = part.size("fc1.weight", 1, 2)
    part.check(_with_biases({"fc1": (width, numbers), "fc2": (width, width)}))
    with torch.device("meta"):
        projector = TokenProjector(numbers, width)
    part.load(projector, Source, dtype, device)
    return projector


def _action_mlp_layout(prefix: str, shape: HeadShape) -> Layout:
    hidden = shape.hidden
    sizes: dict[str, Shape] = {
        "layer_norm1": (shape.action_dim * shape.width,),
        "fc1": (hidden, shape.action_dim * shape.width),
        "layer_norm2": (hidden,),
        "fc2": (shape.action_dim, hidden),
    }
    for index in range(_BLOCKS):
        sizes |= {f"mlp_resnet_blocks.{index}.ffn.0": (hidden,), f"mlp_resnet_blocks.{index}.ffn.1": (hidden, hidden)}
    return _with_biases({prefix + name: size for name, size in sizes.items()})


def _with_biases(weights: dict[str, Shape]) -> Layout:
    return Layout(
        {f"{name}.weight": size for name, size in weights.items()}
        | {f"{name}.bias": size[:1] for name, size in weights.items()}
    )
