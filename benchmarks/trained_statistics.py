"""Inputs and attention of a trained language model: outliers, sinks, and how stable the ranking of tokens is."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.trained_network import Network, TrainedModel
from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.tools.compression.observed_layer import ObservedLayer
from sqap_vla_ros.vlm.attention import attention_rows
from sqap_vla_ros.vlm.layers import LayerInput, run_layer
from sqap_vla_ros.vlm.lowbit.layer import LINEARS, NORMS
from sqap_vla_ros.vlm.lowbit.transform import prepare
from sqap_vla_ros.vlm.weights import Source

TOP_K = (4, 8, 16, 32, 64, 128)
SCORING_LAYERS = (1, 2, 4)
"""Layers whose attention is compared; the policies score in layer 1."""
_INPUTS = {"self_attn.q_proj": "qkv", "self_attn.o_proj": "o", "mlp.gate_proj": "gate_up", "mlp.down_proj": "down"}


def last_rows(network: Network, texts: Sequence[Tensor]) -> dict[int, list[Tensor]]:
    """Attention of the last position to all but the first and itself, mean over heads, by layer, a row per text."""
    rows: dict[int, list[Tensor]] = {layer: [] for layer in SCORING_LAYERS}
    short = Network(network.model, network.layers[: max(SCORING_LAYERS) + 2], network.recipe)
    for tokens in texts:
        last = torch.tensor([len(tokens) - 1])

        def observe(index: int, inputs: LayerInput, last: Tensor = last) -> LayerInput:
            if index - 1 in rows and inputs.queries is not None and inputs.keys is not None:
                row = attention_rows(inputs.queries[0][:, last], inputs.keys[0], last)
                rows[index - 1].append(row[0, 1:-1])
            return inputs

        short.stream(tokens, observe)
    return rows


def overlaps(exact: Mapping[int, Sequence[Tensor]], found: Mapping[int, Sequence[Tensor]]) -> dict[str, float]:
    """Share of the k most attended positions that two networks have in common, in %, by layer and k."""
    shares = {}
    for layer, rows in exact.items():
        for k in TOP_K:
            common = [
                len(np.intersect1d(one.topk(k).indices.numpy(), other.topk(k).indices.numpy())) / k
                for one, other in zip(rows, found[layer], strict=True)
            ]
            shares[f"layer{layer}_top{k}"] = 100 * float(np.mean(common))
    return shares


def sinks(network: Network, texts: Sequence[Tensor]) -> dict[int, dict[str, float]]:
    """Norm of the first token and the median of the others' in front of each layer, and attention to the first token.

    The attention, in %, is the mean over heads and all later positions, of the layer before.
    """
    sums: dict[int, dict[str, float]] = {}

    def observe(index: int, inputs: LayerInput) -> LayerInput:
        norms = inputs.hidden[0].norm(dim=-1)
        found = {"first_norm": float(norms[0]), "median_norm": float(norms[1:].median())}
        if inputs.queries is not None and inputs.keys is not None:
            positions = torch.arange(1, len(norms))
            found["attention"] = 100 * float(
                attention_rows(inputs.queries[0][:, 1:], inputs.keys[0], positions)[:, 0].mean()
            )
        entry = sums.setdefault(index, dict.fromkeys(found, 0.0))
        for name, value in found.items():
            entry[name] += value / len(texts)
        return inputs

    for tokens in texts:
        network.stream(tokens, observe)
    return sums


def outliers(model: TrainedModel, rotated: Recipe, tokens: Tensor) -> dict[str, float]:
    """How peaked inputs of linear layers are before and after the rotation of a recipe, without the first token.

    The crest factor of a token is its largest magnitude over its root mean square; the kurtosis is that of a token's
    channels, 3 for normal ones. Medians over tokens, then means over layers and their worst.
    """
    shape = model.language.shape
    rotations = model.rotations(len(tokens))
    hidden = model.language.embed_tokens(tokens)[None]
    found: dict[str, list[float]] = {}

    def observe(name: str, plain: Tensor, turned: Tensor) -> None:
        for state, values in (("plain", plain[1:]), ("rotated", turned[1:])):
            power = values.square().mean(-1)
            crest = float((values.abs().amax(-1) / power.sqrt()).median())
            kurtosis = float((values.pow(4).mean(-1) / power.square()).median())
            found.setdefault(f"crest_{state}_{_INPUTS[name]}", []).append(crest)
            found.setdefault(f"kurtosis_{state}_{_INPUTS[name]}", []).append(kurtosis)

    for index in range(shape.depth):
        weights, gains = (
            {
                name: model.part.take(Source(f"llm.model.layers.{index}.{name}.weight"), torch.float32, "cpu")
                for name in names
            }
            for names in (LINEARS, NORMS)
        )
        layer = ObservedLayer(prepare(weights, gains, rotated, head_width=shape.head_width), observe)
        hidden, _, _ = run_layer(layer, hidden, rotations, shape.head_width)
    figures = {name: float(np.mean(values)) for name, values in found.items()}
    return figures | {f"worst_{name}": max(values) for name, values in found.items() if name.startswith("crest")}
