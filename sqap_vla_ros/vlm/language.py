"""The Llama-2 language model, as a prefill that can drop visual tokens between two layers.

The float layers are those of `transformers`; the loop over them is `layers.run_layers`, because tokens are dropped in
the middle of it. Policies that read hidden states need neither a key-value cache nor an `lm_head`; one that reads
tokens brings both.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.layers import Attention, DecoderLayer, causal_attention, full_attention, run_layers
from sqap_vla_ros.vlm.pruning.hook import PruningHook, Select
from sqap_vla_ros.vlm.weights import CheckpointError, Layout, Part, Shape, Source, attention_heads

EPSILON = 1e-5


@dataclass(frozen=True)
class LanguageShape:
    """Sizes of the language model.

    Attributes:
        width: Channels.
        depth: Layers.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_width: Channels per head.
        hidden: Channels inside the MLPs.
        vocabulary: Rows of the embedding table.
        epsilon: Of the norms.
        causal: Whether a position sees those before it alone, or all.
    """

    width: int
    depth: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    vocabulary: int
    # Manifests of compressed checkpoints are known by their hash: what is as in CogACT is not written.
    epsilon: Annotated[float, Field(exclude_if=lambda value: value == EPSILON)] = EPSILON
    causal: Annotated[bool, Field(exclude_if=bool)] = True


@dataclass(frozen=True)
class Prefill:
    """Result of one run of the language model.

    Attributes:
        cognition: (batch, width), the cognition feature: the final norm's output at each sample's last position.
        positions: int64 (batch, positions), the original position of each token that went through the last layer.
        scores: float32 (batch, visual), attention of the last position to the visual tokens, mean over heads, in
            the layer before the pruning; None when nothing was pruned, or in front of layer 0.
        last_hidden: (batch, positions, width), the final norm's output; None unless all positions were asked for.
    """

    cognition: Tensor
    positions: Tensor
    scores: NDArray[np.float32] | None
    last_hidden: Tensor | None = None


def language_shape(part: Part, architecture: Mapping[str, int]) -> LanguageShape:
    """Read the sizes off the tensors.

    Raises:
        CheckpointError: Tensors that show the sizes are missing, or the numbers of heads contradict the shapes.
    """
    width = part.size(".input_layernorm.weight", 0, 1)
    heads = attention_heads("llm_heads", width, architecture)
    query_rows, key_rows = part.size(".q_proj.weight", 0, 2), part.size(".k_proj.weight", 0, 2)
    head_width = query_rows // heads
    kv_heads = key_rows // head_width if head_width else 0
    if head_width * heads != query_rows or head_width * kv_heads != key_rows or not kv_heads or heads % kv_heads:
        raise CheckpointError(f"{part.name}: {query_rows} query and {key_rows} key rows do not form {heads} heads")
    if architecture.get("llm_kv_heads", kv_heads) != kv_heads:
        said = architecture["llm_kv_heads"]
        raise CheckpointError(f"{part.name}: llm_kv_heads = {said}, but the key projections have {kv_heads} heads")
    return LanguageShape(
        width=width,
        depth=part.depth("llm.model.layers."),
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        hidden=part.size(".gate_proj.weight", 0, 2),
        vocabulary=part.size("llm.model.embed_tokens.weight", 0, 2),
    )


def attention_of(shape: LanguageShape) -> Attention:
    """How the layers of a language model mix values."""
    return causal_attention if shape.causal else full_attention


def language_layout(shape: LanguageShape) -> Layout:
    """Published names and shapes of the language model's tensors."""
    width, hidden = shape.width, shape.hidden
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    layer: dict[str, Shape] = {
        "self_attn.q_proj.weight": (queries, width),
        "self_attn.k_proj.weight": (keys, width),
        "self_attn.v_proj.weight": (keys, width),
        "self_attn.o_proj.weight": (width, queries),
        "mlp.gate_proj.weight": (hidden, width),
        "mlp.up_proj.weight": (hidden, width),
        "mlp.down_proj.weight": (width, hidden),
        "input_layernorm.weight": (width,),
        "post_attention_layernorm.weight": (width,),
    }
    embeddings = (shape.vocabulary, width)
    required: dict[str, Shape] = {"llm.model.embed_tokens.weight": embeddings, "llm.model.norm.weight": (width,)}
    for index in range(shape.depth):
        required |= {f"llm.model.layers.{index}.{name}": size for name, size in layer.items()}
    return Layout(required, {"llm.lm_head.weight": embeddings})


class FloatDecoderLayer(nn.Module):
    """A decoder layer of `transformers`' Llama, as a `layers.DecoderLayer`."""

    def __init__(self, shape: LanguageShape) -> None:
        # transformers takes seconds to import, which reading a policy's settings does not need.
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer

        super().__init__()
        config = LlamaConfig(
            hidden_size=shape.width,
            intermediate_size=shape.hidden,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_width,
            rms_norm_eps=shape.epsilon,
        )
        layer = LlamaDecoderLayer(config, 0)
        self.self_attn = layer.self_attn
        self.mlp = layer.mlp
        self.input_layernorm = layer.input_layernorm
        self.post_attention_layernorm = layer.post_attention_layernorm

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `layers.DecoderLayer`."""
        normed = self.input_layernorm(hidden)
        return self.self_attn.q_proj(normed), self.self_attn.k_proj(normed), self.self_attn.v_proj(normed)

    def add_attention(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """See `layers.DecoderLayer`."""
        return hidden + self.self_attn.o_proj(mixed)

    def add_feed_forward(self, hidden: Tensor) -> Tensor:
        """See `layers.DecoderLayer`."""
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class LanguageModel(nn.Module):
    """Llama without its output projection."""

    def __init__(self, shape: LanguageShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList([FloatDecoderLayer(shape) for _ in range(shape.depth)])
        self.norm: nn.Module = nn.RMSNorm(shape.width, eps=shape.epsilon)

    def embed(self, input_ids: Tensor, visual: Tensor) -> Tensor:
        """Embeddings of the whole sequence: BOS, the visual tokens, the rest of the text.

        Args:
            input_ids: int64 (batch, text), BOS first.
            visual: (batch, visual, width), projected patches.

        Returns:
            (batch, visual + text, width).
        """
        text = self.embed_tokens(input_ids)
        return torch.cat((text[:, :1], visual, text[:, 1:]), dim=1)

    def without_layers(self, dropped: Collection[int]) -> "LanguageModel":
        """The same model, sharing its weights, without some of its layers."""
        kept = [layer for index, layer in enumerate(self.layers) if index not in dropped]
        with torch.device("meta"):
            model = LanguageModel(replace(self.shape, depth=0))
        model.shape = replace(self.shape, depth=len(kept))
        model.embed_tokens, model.layers, model.norm = self.embed_tokens, nn.ModuleList(kept), self.norm
        return model.eval()

    def run_layers(self, hidden: Tensor, **options: Any) -> Tensor:
        """Run all layers on the residual stream (batch, positions, width); options are those of `layers.run_layers`."""
        options.setdefault("attention", attention_of(self.shape))
        # A module list is typed as plain modules.
        return run_layers(cast("list[DecoderLayer]", list(self.layers)), hidden, self.shape.head_width, **options)

    def prefill(
        self,
        inputs_embeds: Tensor,
        visual_tokens: int,
        lengths: Tensor | None = None,
        *,
        select: Select | None = None,
        prune_before_layer: int = 2,
        all_positions: bool = False,
    ) -> Prefill:
        """Run all layers once.

        Padding needs no mask: it is on the right, where a causal model never looks.

        Args:
            inputs_embeds: (batch, positions, width), from `embed`.
            visual_tokens: Number of visual tokens behind the first position.
            lengths: int64 (batch,), true number of positions of each sample; None: all.
            select: Chooses the visual tokens that stay; it is called once per sample, in order. None: all stay. Tokens
                keep their order and their rotary positions, and text always stays.
            prune_before_layer: Index of the layer before which the other tokens are dropped.
            all_positions: Whether the last layer computes all positions, or each sample's last position alone.

        Raises:
            ValueError: `prune_before_layer` is not a layer, or a selection is not ascending indices of visual
                tokens, equally many for every sample.
        """
        batch, count = inputs_embeds.shape[:2]
        device = inputs_embeds.device
        last = torch.full((batch,), count - 1, device=device) if lengths is None else lengths.to(device) - 1
        if select is not None and not 0 <= prune_before_layer < len(self.layers):
            raise ValueError(f"prune_before_layer = {prune_before_layer}, expected 0 to {len(self.layers) - 1}")
        positions = torch.arange(count, device=device).expand(batch, count)
        rotations = rotary_tables(positions[:1], self.shape.head_width, inputs_embeds.dtype)
        pruning = PruningHook(select, prune_before_layer, visual_tokens, self.shape.head_width, positions, last)
        hidden = self.run_layers(
            inputs_embeds,
            rotations=rotations,
            last=None if all_positions else last,
            before_layer=None if select is None else pruning,
        )
        hidden = self.norm(hidden)
        if all_positions:
            cognition = hidden[torch.arange(batch, device=device), pruning.last]
            return Prefill(cognition, pruning.positions, pruning.scores, hidden)
        return Prefill(hidden[:, 0], pruning.positions, pruning.scores)


def load_language(
    part: Part,
    architecture: Mapping[str, int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    epsilon: float = EPSILON,
    causal: bool = True,
) -> LanguageModel:
    """Build the language model from the `llm_backbone` part of a checkpoint.

    Raises:
        CheckpointError: The tensors are not those of a Llama model.
    """
    shape = replace(language_shape(part, architecture), epsilon=epsilon, causal=causal)
    part.check(language_layout(shape))
    with torch.device("meta"):
        model = LanguageModel(shape)
    part.load(model, lambda name: Source(f"llm.model.{name}"), dtype, device)
    return model
