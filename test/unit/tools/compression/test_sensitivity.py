"""Action sensitivities against changes of the actions that were measured."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from compressions import named_recipe
from torch import Tensor

from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.diffusion import Ddim, sample
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.tools.compression import sensitivity
from sqap_vla_ros.tools.compression.allocation import WIDTHS, ChannelCosts, allocate_layers
from sqap_vla_ros.tools.compression.observed_layer import ObservedLayer
from sqap_vla_ros.tools.compression.sensitivity import action_sensitivities, frame_noises
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.layers import run_layers
from sqap_vla_ros.vlm.lowbit.layer import LINEARS, NORMS
from sqap_vla_ros.vlm.lowbit.transform import PreparedLayer, prepare
from sqap_vla_ros.vlm.lowbit.weight import mixed_weight

pytestmark = pytest.mark.slow

Costs = dict[tuple[int, str], ChannelCosts]


@pytest.fixture(scope="module")
def model(random_run: Path) -> CogACT:
    return load_cogact(open_checkpoint(random_run))


def frames(count: int, seed: int) -> list[Tensor]:
    """Embeddings of sequences of different lengths, as much alike as those of one task."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(1, 40, 64, generator=generator)
    return [0.8 * common[:, : 30 + i] + 0.6 * torch.randn(1, 30 + i, 64, generator=generator) for i in range(count)]


def prepared_layers(model: CogACT, recipe_name: str) -> list[PreparedLayer]:
    def take(layer: torch.nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: layer.get_parameter(f"{name}.weight").data for name in names}

    recipe, head_width = named_recipe(recipe_name), model.language.shape.head_width
    layers = model.language.layers
    return [prepare(take(layer, LINEARS), take(layer, NORMS), recipe, head_width=head_width) for layer in layers]


def sensitivities(model: CogACT, layers: list[PreparedLayer], embeddings: list[Tensor]) -> Costs:
    language = model.language
    gain = language.get_parameter("norm.weight").data
    return action_sensitivities(layers.__getitem__, gain, model.action_head, embeddings, language.shape)


@torch.no_grad()
def actions(model: CogACT, layers: list[PreparedLayer], embeddings: list[Tensor]) -> Tensor:
    """Action chunks (frames, horizon, 7) with prepared layers in place of the model's."""
    cognition = []
    for hidden in embeddings:
        observed = [ObservedLayer(layer, lambda name, values, rotated: None) for layer in layers]
        hidden = run_layers(observed, hidden, model.language.shape.head_width)
        cognition.append(model.language.norm(hidden[:, -1:]))
    return sample(Ddim(), model.action_head, frame_noises(len(embeddings), model.action_head), torch.cat(cognition))


def with_weights(layer: PreparedLayer, weights: Mapping[str, Tensor]) -> PreparedLayer:
    return replace(layer, weights={**layer.weights, **weights})


def with_bits(layers: list[PreparedLayer], bits: Mapping[tuple[int, str], Tensor]) -> list[PreparedLayer]:
    return [
        with_weights(
            layer,
            {name: mixed_weight(weight, bits[index, name]).dequantised() for name, weight in layer.weights.items()},
        )
        for index, layer in enumerate(layers)
    ]


def allocated(costs: Costs, target_bits: float) -> dict[tuple[int, str], Tensor]:
    names = {f"{index} {name}": (index, name) for index, name in costs}
    bits = allocate_layers({name: costs[key] for name, key in names.items()}, target_bits)
    return {names[name]: found for name, found in bits.items()}


def by_weight_error(layers: list[PreparedLayer]) -> Costs:
    """What QVLA argues against: the squared error of a row itself."""
    costs = {}
    for index, layer in enumerate(layers):
        for name, weight in layer.weights.items():
            table = [weight.new_zeros(len(weight))]
            for width in WIDTHS[1:]:
                rounded = mixed_weight(weight, torch.full((len(weight),), width, dtype=torch.uint8)).dequantised()
                table.append((rounded - weight).square().sum(1))
            costs[index, name] = ChannelCosts(torch.stack(table, 1), weight.shape[1])
    return costs


@dataclass(frozen=True)
class Sampled:
    """Estimates and measured changes (channels, 4), of some channels at each width below 16 bits."""

    estimated: Tensor
    measured: Tensor


@pytest.fixture(scope="module", params=["qvla", "qvla-rotated"])
def sampled(request: pytest.FixtureRequest, model: CogACT) -> Sampled:
    layers, embeddings = prepared_layers(model, request.param), frames(4, 0)
    costs, exact = sensitivities(model, layers, embeddings), actions(model, layers, embeddings)
    generator = torch.Generator().manual_seed(1)
    estimated, measured = [], []
    for index, name in costs:
        weight = layers[index].weights[name]
        for row in torch.randperm(len(weight), generator=generator)[:2].tolist():
            changes = []
            for width in WIDTHS[1:]:
                changed = weight.clone()
                changed[row] = mixed_weight(weight[row, None], torch.tensor([width], dtype=torch.uint8)).dequantised()
                replaced = [*layers]
                replaced[index] = with_weights(layers[index], {name: changed})
                changes.append((actions(model, replaced, embeddings) - exact).square().sum((1, 2)).mean())
            estimated.append(costs[index, name].costs[row, 1:])
            measured.append(torch.stack(changes))
    return Sampled(torch.stack(estimated), torch.stack(measured))


@pytest.mark.parametrize("column", range(4), ids=[f"{width} bits" for width in WIDTHS[1:]])
def test_estimates_rank_channels_as_measured_changes_do(sampled: Sampled, column: int) -> None:
    ranks = torch.stack([table[:, column].argsort().argsort() for table in (sampled.estimated, sampled.measured)])
    assert torch.corrcoef(ranks.double())[0, 1] > 0.9


@pytest.mark.parametrize("column", range(4), ids=[f"{width} bits" for width in WIDTHS[1:]])
def test_estimates_are_of_the_size_of_measured_changes(sampled: Sampled, column: int) -> None:
    ratios = sampled.estimated[:, column] / sampled.measured[:, column]
    assert 0.7 < ratios.median() < 1.4


def test_with_bits_where_actions_need_them_actions_err_less_than_with_uniform_bits(model: CogACT) -> None:
    layers, seen, unseen = prepared_layers(model, "qvla"), frames(5, 0), frames(5, 2)
    costs, exact = sensitivities(model, layers, seen), actions(model, layers, unseen)

    def error(bits: Mapping[tuple[int, str], Tensor]) -> float:
        return float((actions(model, with_bits(layers, bits), unseen) - exact).norm() / exact.norm())

    uniform = {key: torch.full((len(cost.costs),), 4, dtype=torch.uint8) for key, cost in costs.items()}
    assert error(allocated(costs, 4)) < 0.8 * error(uniform)


@pytest.mark.parametrize("target_bits", [3, 6])
def test_actions_err_less_than_with_bits_where_weights_err_most(model: CogACT, target_bits: float) -> None:
    layers, seen, unseen = prepared_layers(model, "qvla"), frames(5, 0), frames(5, 2)
    exact = actions(model, layers, unseen)
    by_action, by_weight = (
        float((actions(model, with_bits(layers, allocated(costs, target_bits)), unseen) - exact).norm())
        for costs in (sensitivities(model, layers, seen), by_weight_error(layers))
    )
    assert by_action < 0.8 * by_weight


# --- what is known without measuring


@pytest.fixture(scope="module")
def plain(model: CogACT) -> list[PreparedLayer]:
    return prepared_layers(model, "qvla")


def test_sixteen_bits_cost_nothing_and_fewer_something(model: CogACT, plain: list[PreparedLayer]) -> None:
    costs = sensitivities(model, plain, frames(2, 0))
    assert set(costs) == {(index, name) for index in range(len(plain)) for name in LINEARS}
    for cost in costs.values():
        assert (cost.costs[:, 0] == 0).all() and (cost.costs[:, 1:] > 0).all()


def test_rows_that_the_actions_do_not_see_cost_nothing(model: CogACT, plain: list[PreparedLayer]) -> None:
    down = plain[1].weights["mlp.down_proj"].clone()
    down[:, 5] = 0
    unseen = [plain[0], with_weights(plain[1], {"mlp.down_proj": down}), plain[2]]
    costs = sensitivities(model, unseen, frames(2, 0))
    for name in ("mlp.gate_proj", "mlp.up_proj"):
        assert (costs[1, name].costs[5] == 0).all() and (costs[1, name].costs[6, 1:] > 0).all()


def test_rows_that_integers_hold_exactly_cost_nothing_until_they_go(model: CogACT, plain: list[PreparedLayer]) -> None:
    values = plain[1].weights["self_attn.v_proj"].clone()
    values[3] = 0.125 * values[3].sign()
    exact = [plain[0], with_weights(plain[1], {"self_attn.v_proj": values}), plain[2]]
    row = sensitivities(model, exact, frames(2, 0))[1, "self_attn.v_proj"].costs[3]
    assert (row[1:4] < 1e-9 * row[4]).all() and row[4] > 0


def test_only_what_reaches_the_last_position_of_the_last_layer_counts(
    model: CogACT, plain: list[PreparedLayer]
) -> None:
    one, other = frames(1, 0)[0], frames(1, 3)[0]
    other[:, -1] = one[:, -1]
    # With attention that moves nothing each position is alone.
    alone = [with_weights(layer, {"self_attn.o_proj": torch.zeros(64, 64)}) for layer in plain]
    costs = [sensitivities(model, alone, [embeddings])[2, "mlp.up_proj"].costs for embeddings in (one, other)]
    assert torch.allclose(costs[0], costs[1], rtol=1e-3)


def test_frames_are_averaged_whatever_is_in_memory_together(
    model: CogACT, plain: list[PreparedLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = sensitivities(model, plain, frames(5, 0))
    monkeypatch.setattr(sensitivity, "_TOGETHER", 1)
    alone = sensitivities(model, plain, frames(5, 0))
    assert all(torch.allclose(together[key].costs, alone[key].costs, rtol=1e-3) for key in together)


def test_the_same_frames_give_the_same_numbers(model: CogACT, plain: list[PreparedLayer]) -> None:
    one, other = (sensitivities(model, plain, frames(2, 0)) for _ in range(2))
    assert all(torch.equal(one[key].costs, other[key].costs) for key in one)


def test_layers_are_read_up_and_down_and_one_is_in_memory(model: CogACT, plain: list[PreparedLayer]) -> None:
    read: list[int] = []
    steps: list[int] = []
    alive: Callable[[], PreparedLayer | None] = lambda: None  # noqa: E731 - takes the place of a weak reference

    def read_layer(index: int) -> PreparedLayer:
        nonlocal alive
        assert alive() is None, f"layer {read[-1]} is in memory while layer {index} is read"
        layer = replace(plain[index])
        alive = weakref.ref(layer)
        read.append(index)
        return layer

    gain, head, shape = model.language.get_parameter("norm.weight").data, model.action_head, model.language.shape
    action_sensitivities(read_layer, gain, head, frames(2, 0), shape, on_layer=lambda: steps.append(len(read)))
    assert read == [0, 1, 2, 2, 1, 0]
    assert steps == [0, 1, 2, 3, 4, 5]
