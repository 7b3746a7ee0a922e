"""How much the actions change when one output channel of the language model is rounded (QVLA).

The sensitivity of row c of a linear layer at b bits is s = E‖A(W with the row rounded) − A(W)‖² over the calibration
frames, A being the normalised action chunk before it is clipped. To first order s = E‖J ΔW_c‖² with the Jacobian J of
the actions. It is estimated by random signs u over the numbers of the chunk: E_u (uᵀ J ΔW_c)² = ‖J ΔW_c‖², and
uᵀ J ΔW_c = Σ_t δ_tc (X ΔWᵀ)_tc with X the layer's inputs and δ the gradient of uᵀA with respect to its outputs. That is
one matrix product per frame and width, for all channels at once.

One decoder layer is in memory at a time: on the way up only the residual stream in front of each is kept, on the way
down each is read and run once more, with gradients. Activations are not rounded here.

The paper goes on to measure the true change for channels near the boundary of the allocation. That step is left out,
because each measurement is a run of the model. The estimates rank channels as measured changes do (rank correlation
0.97 and more on small random models; the tests show it on a sample). With all channels measured, the actions were not
consistently more exact than with these estimates.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.policies.cogact.action_head import ActionHead
from sqap_vla_ros.policies.cogact.diffusion import Ddim, sample
from sqap_vla_ros.tools.compression.allocation import WIDTHS, ChannelCosts
from sqap_vla_ros.tools.compression.observed_layer import ObservedLayer, leaders
from sqap_vla_ros.vlm.language import LanguageShape, attention_of
from sqap_vla_ros.vlm.layers import run_layers
from sqap_vla_ros.vlm.lowbit.integers import absmax_scales, quantise
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer

# Vectors of random signs per frame; each costs a backward pass. The relative error of the mean over n is √(2/n) at
# most, 12 % with 32 frames; from one width to the next a sensitivity grows about fifty-fold.
PROBES = 4
# Frames whose gradients inside a layer are in memory together, so that rounding its weights costs little compared with
# the products; with CogACT-Base 0.2 GiB each.
_TOGETHER = 4
# Number format of the residual streams between the two passes: 2.2 GiB for 32 frames of CogACT-Base.
_KEPT = torch.bfloat16
_NOISE_SEED, _SIGNS_SEED = 0, 1


Plan = Callable[[int, Tensor], Tensor]
"""The normalised actions, before they are clipped, of a frame (its number) from the residual stream (1, positions,
width) behind the last layer."""


def action_sensitivities(
    read_layer: Callable[[int], PreparedLayer],
    gain: Tensor,
    head: ActionHead,
    embeddings: Sequence[Tensor],
    shape: LanguageShape,
    on_layer: Callable[[], None] = lambda: None,
) -> dict[tuple[int, str], ChannelCosts]:
    """Estimate the sensitivities of a CogACT.

    Args:
        read_layer: Prepares a decoder layer, by its index; called twice for each.
        gain: float32 (width,), gain of the final norm.
        head: The action head, float32.
        embeddings: float32 (1, positions, width) of each frame.
        shape: Sizes of the language model.
        on_layer: Called before each of the 2 · depth layers is read.
    """
    return channel_sensitivities(
        read_layer, diffusion_plan(head, gain, len(embeddings), shape.epsilon), embeddings, shape, on_layer
    )


def diffusion_plan(head: ActionHead, gain: Tensor, frames: int, epsilon: float) -> Plan:
    """How CogACT plans: its head samples from the last position; arguments as in `action_sensitivities`."""
    noises = frame_noises(frames, head)

    def plan(frame: int, hidden: Tensor) -> Tensor:
        cognition = functional.rms_norm(hidden[:, -1:], hidden.shape[-1:], gain, epsilon)
        return sample(Ddim(), head, noises[frame][None].to(hidden.device), cognition)

    return plan


@torch.enable_grad()
def channel_sensitivities(
    read_layer: Callable[[int], PreparedLayer],
    plan: Plan,
    embeddings: Sequence[Tensor],
    shape: LanguageShape,
    on_layer: Callable[[], None] = lambda: None,
) -> dict[tuple[int, str], ChannelCosts]:
    """Estimate the sensitivity of every output channel at each width; at 16 bits, what models run in anyhow, it is 0.

    Args:
        read_layer: Prepares a decoder layer, by its index; called twice for each.
        plan: The actions of a frame.
        embeddings: float32 (1, positions, width) of each frame.
        shape: Sizes of the language model.
        on_layer: Called before each of the 2 · depth layers is read.

    Returns:
        Costs by index of the decoder layer and published name of the linear layer in it.
    """
    kept, answers = _ascend(read_layer, embeddings, shape, on_layer)
    signs = torch.Generator().manual_seed(_SIGNS_SEED)
    gradients = [_action_gradients(plan, frame, answer, signs) for frame, answer in enumerate(answers)]
    costs = {}
    for index in reversed(range(shape.depth)):
        on_layer()
        for name, cost in _descend(read_layer(index), kept.pop(), gradients, shape).items():
            costs[index, name] = cost
    return costs


def frame_noises(frames: int, head: ActionHead) -> Tensor:
    """Draw the sampler's initial noise of each frame, float32 (frames, horizon, action_dim). It is always the same."""
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    return torch.randn(frames, head.shape.horizon, head.shape.action_dim, generator=generator)


@torch.no_grad()
def _ascend(
    read_layer: Callable[[int], PreparedLayer],
    embeddings: Sequence[Tensor],
    shape: LanguageShape,
    on_layer: Callable[[], None],
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Return the residual stream of each frame in front of each layer, and behind the last one."""
    hidden = list(embeddings)
    kept = []
    for index in range(shape.depth):
        on_layer()
        kept.append([frame.to(_KEPT) for frame in hidden])
        # Without a name: a layer that is kept would be in memory together with the next.
        hidden = _run_all(
            ObservedLayer(read_layer(index), lambda name, values, rotated: None, epsilon=shape.epsilon), hidden, shape
        )
    return kept, hidden


def _run_all(layer: ObservedLayer, frames: list[Tensor], shape: LanguageShape) -> list[Tensor]:
    attention = attention_of(shape)
    return [run_layers([layer], hidden, shape.head_width, attention=attention) for hidden in frames]


def _action_gradients(plan: Plan, frame: int, hidden: Tensor, signs: torch.Generator) -> list[Tensor]:
    """Compute the gradient of uᵀA for each probe with respect to the residual stream behind the last layer."""
    hidden = hidden.detach().requires_grad_()
    actions = plan(frame, hidden)
    probes = torch.randint(2, (PROBES, *actions.shape), generator=signs).to(actions) * 2 - 1
    return [torch.autograd.grad(actions, hidden, probe, retain_graph=True)[0] for probe in probes]


@dataclass(frozen=True)
class _Pass:
    """One frame's way through a layer and back.

    Attributes:
        inputs: (tokens, columns), rotated as the weights are, by linear layers that have an input of their own.
        outputs: (tokens, rows), by linear layer.
        deltas: (tokens, rows) for each probe: gradients with respect to the outputs.
        onward: (1, tokens, width) for each probe: gradients with respect to the residual stream in front of the layer.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    deltas: dict[str, list[Tensor]]
    onward: list[Tensor]


class _TracedLayer(ObservedLayer):
    """Records the rotated inputs and, with their graph, the outputs (1, tokens, rows) of its linear layers."""

    def __init__(self, prepared: PreparedLayer, epsilon: float) -> None:
        inputs: dict[str, Tensor] = {}

        def remember(name: str, values: Tensor, rotated: Tensor) -> None:
            inputs[name] = rotated.detach()

        # A method in its place would make a cycle, and keep the layer in memory beyond its use.
        super().__init__(prepared, remember, epsilon=epsilon)
        self.inputs = inputs
        self.outputs: dict[str, Tensor] = {}

    def _linears(self, names: tuple[str, ...], values: Tensor) -> list[Tensor]:
        outputs = super()._linears(names, values)
        self.outputs |= zip(names, outputs, strict=True)
        return outputs


def _descend(
    prepared: PreparedLayer, kept: list[Tensor], gradients: list[list[Tensor]], shape: LanguageShape
) -> dict[str, ChannelCosts]:
    """Compute the sensitivities of one layer.

    Args:
        prepared: The prepared layer.
        kept: Residual stream of each frame in front of the layer.
        gradients: Gradients of each frame and probe with respect to the layer's output. They are replaced by those with
            respect to its input.
        shape: Sizes of the language model.
    """
    sums = {name: weight.new_zeros(len(weight), len(WIDTHS)) for name, weight in prepared.weights.items()}
    for start in range(0, len(kept), _TOGETHER):
        passes = []
        for frame in range(start, min(start + _TOGETHER, len(kept))):
            passes.append(_backward(prepared, kept[frame].float(), gradients[frame], shape))
            gradients[frame] = passes[-1].onward
        for name, leader in leaders(prepared).items():
            inputs = torch.cat([each.inputs[leader] for each in passes])
            outputs = torch.cat([each.outputs[name] for each in passes])
            changes = _output_changes(prepared.weights[name], inputs, outputs)
            for width, change in enumerate(changes, start=1):
                parts = change.split([len(each.outputs[name]) for each in passes])
                for each, part in zip(passes, parts, strict=True):
                    for delta in each.deltas[name]:
                        sums[name][:, width] += (delta * part).sum(0).square_()
    count = PROBES * len(kept)
    return {name: ChannelCosts((total / count).cpu(), prepared.weights[name].shape[1]) for name, total in sums.items()}


def _backward(prepared: PreparedLayer, hidden: Tensor, gradients: list[Tensor], shape: LanguageShape) -> _Pass:
    """Run a layer forward, and backward with each probe's gradient."""
    layer = _TracedLayer(prepared, shape.epsilon)
    hidden.requires_grad_()
    answer = run_layers([layer], hidden, shape.head_width, attention=attention_of(shape))
    wanted = [hidden, *layer.outputs.values()]
    onward, *deltas = zip(
        *(torch.autograd.grad(answer, wanted, gradient, retain_graph=True) for gradient in gradients), strict=True
    )
    return _Pass(
        inputs=layer.inputs,
        outputs={name: output.detach().squeeze(0) for name, output in layer.outputs.items()},
        deltas={name: [each.squeeze(0) for each in delta] for name, delta in zip(layer.outputs, deltas, strict=True)},
        onward=list(onward),
    )


def _output_changes(weight: Tensor, inputs: Tensor, outputs: Tensor) -> Iterator[Tensor]:
    """Yield X ΔWᵀ (tokens, rows), up to its sign, at each width below 16 bits."""
    for bits in WIDTHS[1:-1]:
        scales = absmax_scales(weight, bits)
        yield functional.linear(inputs, (quantise(weight, scales, bits) * scales).sub_(weight))
    # At 0 bits the row is zero, and so is its output.
    yield outputs
