"""A trained language model through this project's own layers, float and compressed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sqap_vla_ros.config.recipe import Recipe
from sqap_vla_ros.tools.compression.layer_calibration import LayerCalibration
from sqap_vla_ros.tools.compression.rounding import round_linear
from sqap_vla_ros.vlm.attention import Rotations, rotary_tables
from sqap_vla_ros.vlm.language import LanguageModel, language_layout, load_language
from sqap_vla_ros.vlm.layers import BeforeLayer, DecoderLayer, run_layers
from sqap_vla_ros.vlm.lowbit.layer import LINEARS, NORMS, QuantDecoderLayer
from sqap_vla_ros.vlm.lowbit.transform import prepare, rotate_residual
from sqap_vla_ros.vlm.weights import Part, Source

# Names in the GGUF file to the published ones of a decoder layer.
_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with its tokenizer.

    Attributes:
        part: Its tensors by published names, float32.
        language: The float model.
        theta: Base of the rotary angles.
        encode: A text's tokens, int64 (tokens,).
    """

    part: Part
    language: LanguageModel
    theta: float
    encode: Callable[[str], Tensor]

    def rotations(self, count: int) -> Rotations:
        """Rotary tables of the positions 0, 1, … count - 1."""
        return rotary_tables(torch.arange(count)[None], self.language.shape.head_width, torch.float32, self.theta)


@dataclass(frozen=True)
class Network:
    """What a text goes through: decoder layers between the embedding and the tied head.

    Attributes:
        model: The trained model.
        layers: Its decoder layers, float or compressed.
        recipe: How they were compressed; None: float.
    """

    model: TrainedModel
    layers: Sequence[DecoderLayer]
    recipe: Recipe | None = None

    def stream(self, tokens: Tensor, before_layer: BeforeLayer | None = None) -> Tensor:
        """The residual stream behind the last layer, float32 (1, tokens, width), in the published basis."""
        shape = self.model.language.shape
        hidden = _in_basis(self.model.language.embed_tokens(tokens)[None], self.recipe)
        rotations = self.model.rotations(len(tokens))
        hidden = run_layers(self.layers, hidden, shape.head_width, rotations=rotations, before_layer=before_layer)
        return _in_basis(hidden, self.recipe)

    def losses(self, tokens: Tensor) -> Tensor:
        """Negative log likelihood of each token after the first, float32 (tokens - 1,), in nats."""
        normed = self.model.language.norm(self.stream(tokens))[0, :-1]
        logits = normed @ self.model.language.embed_tokens.weight.T
        return functional.cross_entropy(logits, tokens[1:], reduction="none")


def read_model(path: Path) -> TrainedModel:
    """Read a Llama in a GGUF file, dequantised to float32.

    Raises:
        ImportError: The package `gguf` is missing.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)

    def field(name: str) -> float:
        return float(reader.fields[f"llama.{name}"].contents())

    heads, kv_heads = int(field("attention.head_count")), int(field("attention.head_count_kv"))
    published = {"token_embd.weight": "llm.model.embed_tokens.weight", "output_norm.weight": "llm.model.norm.weight"}
    for index in range(int(field("block_count"))):
        prefix = f"llm.model.layers.{index}."
        published |= {f"blk.{index}.{name}.weight": f"{prefix}{ours}.weight" for name, ours in _NAMES.items()}
    tensors = {}
    for stored in reader.tensors:
        name = published[stored.name]
        values = torch.from_numpy(np.array(dequantize(stored.data, stored.tensor_type), np.float32))
        if name.endswith((".q_proj.weight", ".k_proj.weight")):
            values = _halves(values, heads if name.endswith(".q_proj.weight") else kv_heads)
        tensors[name] = values
    part = Part("llm_backbone", tensors)
    language = load_language(part, {"llm_heads": heads, "llm_kv_heads": kv_heads})
    part.check(language_layout(language.shape))
    return TrainedModel(part, language, field("rope.freq_base"), _tokenizer(reader))


def float_network(model: TrainedModel) -> Network:
    """The model as it was trained."""
    return Network(model, list(model.language.layers))


@torch.no_grad()
def compress(model: TrainedModel, recipe: Recipe, calibration: Sequence[Tensor]) -> Iterator[QuantDecoderLayer]:
    """Compress layer after layer, as `sqap-vla compress` does; empty calibration: uncalibrated.

    Args:
        model: The trained model.
        recipe: How it is compressed.
        calibration: int64 (tokens,) each, of the same length.
    """
    shape = model.language.shape
    seen_by = None
    if calibration:
        embeddings = [_in_basis(model.language.embed_tokens(tokens)[None], recipe) for tokens in calibration]
        seen_by = LayerCalibration(embeddings, shape, model.rotations(len(calibration[0])))
    for index in range(shape.depth):
        weights, gains = (
            {
                name: model.part.take(Source(f"llm.model.layers.{index}.{name}.weight"), torch.float32, "cpu")
                for name in names
            }
            for names in (LINEARS, NORMS)
        )
        prepared = prepare(weights, gains, recipe, head_width=shape.head_width)
        if seen_by is not None and recipe.smoothing is not None:
            prepared = prepare(
                weights, gains, recipe, seen_by.input_magnitudes(prepared, recipe.smoothing_by), shape.head_width
            )
        seen = {} if seen_by is None else seen_by.inputs(prepared)
        linears = {name: round_linear(name, index, prepared, recipe, seen.get(name))[0] for name in LINEARS}
        layer = QuantDecoderLayer(linears, prepared.gains).eval()
        if seen_by is not None:
            seen_by.advance(layer)
        yield layer


def _in_basis(stream: Tensor, recipe: Recipe | None) -> Tensor:
    """The residual stream as a network of this recipe carries it, and back."""
    return rotate_residual(stream, recipe) if recipe is not None and recipe.rotation == "residual" else stream


def _halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys with paired channels in two halves, as published; GGUF has each pair side by side."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _tokenizer(reader) -> Callable[[str], Tensor]:  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return lambda text: torch.tensor(tokenizer.encode(text).ids)
