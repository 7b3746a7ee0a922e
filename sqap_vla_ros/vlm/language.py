"""The Llama-2 language model, as a prefill that can drop visual tokens between two layers.

The layers are those of `transformers`; the loop over them is here, because tokens leave in the middle of it. Only the
hidden state of the last position is used, so there is no key-value cache and no `lm_head`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sqap_vla_ros.vlm.attention import Evidence, rotary_tables, run_layer
from sqap_vla_ros.vlm.weights import CheckpointError, Layout, Part, Shape, Source, attention_heads

EPSILON = 1e-5

Select = Callable[[Evidence], NDArray[np.int64]]
"""Which visual tokens of a sample stay: evidence -> indices int64 (keep,), ascending."""


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
    """

    width: int
    depth: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    vocabulary: int


@dataclass(frozen=True)
class Prefill:
    """What the language model answers.

    Attributes:
        cognition: (batch, width), after the final norm at each sample's last position: the cognition feature.
        positions: int64 (batch, positions), the original position of each token that went through the last layer.
        scores: float32 (batch, visual), attention of the last position to the visual tokens, mean over heads, in
            the layer before the pruning; None when nothing was pruned, or before layer 0.
        last_hidden: (batch, positions, width), after the final norm; None unless all positions were asked for.
    """

    cognition: Tensor
    positions: Tensor
    scores: NDArray[np.float32] | None
    last_hidden: Tensor | None = None


def language_shape(part: Part, architecture: Mapping[str, int]) -> LanguageShape:
    """Read the sizes off the tensors.

    Raises:
        CheckpointError: Tensors that say the sizes are missing, or the numbers of heads contradict the shapes.
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


class DecoderLayer(nn.Module):
    """A layer of `transformers`' Llama, in the pieces between which the prefill attends.

    A layer with other arithmetic has the same three methods.
    """

    def __init__(self, shape: LanguageShape) -> None:
        # transformers takes seconds to import; whoever only looks at a policy's settings need not wait for it.
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer

        super().__init__()
        config = LlamaConfig(
            hidden_size=shape.width,
            intermediate_size=shape.hidden,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_width,
            rms_norm_eps=EPSILON,
        )
        layer = LlamaDecoderLayer(config, 0)
        self.self_attn = layer.self_attn
        self.mlp = layer.mlp
        self.input_layernorm = layer.input_layernorm
        self.post_attention_layernorm = layer.post_attention_layernorm

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch, positions, rows) each, of the residual stream (batch, positions, width)."""
        normed = self.input_layernorm(hidden)
        return self.self_attn.q_proj(normed), self.self_attn.k_proj(normed), self.self_attn.v_proj(normed)

    def add_attention(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """The residual stream plus the projected mixture of values (batch, positions, heads * head width)."""
        return hidden + self.self_attn.o_proj(mixed)

    def add_feed_forward(self, hidden: Tensor) -> Tensor:
        """The residual stream plus the MLP's answer to it."""
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class LanguageModel(nn.Module):
    """Llama without its output projection."""

    def __init__(self, shape: LanguageShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList([DecoderLayer(shape) for _ in range(shape.depth)])
        self.norm: nn.Module = nn.RMSNorm(shape.width, eps=EPSILON)

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
        """Run all layers, once.

        Padding needs no mask: it stands on the right, where a causal model never looks.

        Args:
            inputs_embeds: (batch, positions, width), as `embed` makes them.
            visual_tokens: How many visual tokens follow the first position.
            lengths: int64 (batch,), true positions of each sample; None: all.
            select: Chooses the visual tokens that stay, called once per sample in order; None: all stay. They keep
                their order and their rotary positions; text always stays.
            prune_before_layer: Index of the layer before which they leave.
            all_positions: Whether the last layer answers for all positions, not for each sample's last alone.

        Raises:
            ValueError: `prune_before_layer` is not a layer, or a selection is not ascending indices of visual
                tokens, equally many for every sample.
        """
        batch, count = inputs_embeds.shape[:2]
        device = inputs_embeds.device
        samples = torch.arange(batch, device=device)
        last = torch.full((batch,), count - 1, device=device) if lengths is None else lengths.to(device) - 1
        if select is not None and not 0 <= prune_before_layer < len(self.layers):
            raise ValueError(f"prune_before_layer = {prune_before_layer}, expected 0 to {len(self.layers) - 1}")

        hidden, head_width = inputs_embeds, self.shape.head_width
        positions = torch.arange(count, device=device).expand(batch, count)
        rotations = rotary_tables(positions[:1], head_width, hidden.dtype)
        queries = keys = scores = None
        for index, layer in enumerate(self.layers):
            if select is not None and index == prune_before_layer:
                evidence = _evidence(hidden, queries, keys, last, visual_tokens)
                if queries is not None:
                    scores = np.stack([sample.scores for sample in evidence])
                positions = _kept_positions(select, evidence, count).to(device)
                hidden = hidden[samples[:, None], positions]
                rotations = rotary_tables(positions, head_width, hidden.dtype)
                last = last - (count - positions.shape[1])
            only = None if all_positions or index < len(self.layers) - 1 else last
            hidden, queries, keys = run_layer(layer, hidden, rotations, head_width, only)
        hidden = self.norm(hidden)
        if all_positions:
            return Prefill(hidden[samples, last], positions, scores, hidden)
        return Prefill(hidden[:, 0], positions, scores)


def _evidence(
    hidden: Tensor, queries: Tensor | None, keys: Tensor | None, last: Tensor, visual_tokens: int
) -> list[Evidence]:
    """Per sample, without its padding."""
    return [
        Evidence(
            hidden[sample, : end + 1],
            visual_tokens,
            None if queries is None else queries[sample, :, : end + 1],
            None if keys is None else keys[sample, :, : end + 1],
        )
        for sample, end in enumerate(last.tolist())
    ]


def _kept_positions(select: Select, evidence: list[Evidence], count: int) -> Tensor:
    """Original positions int64 (batch, kept) of everything that stays."""
    rows = []
    for sample in evidence:
        indices, visual_tokens = np.asarray(select(sample)), sample.visual_tokens
        within = indices.ndim == 1 and indices.dtype.kind == "i" and len(indices) > 0
        if not within or indices[0] < 0 or indices[-1] >= visual_tokens or np.any(np.diff(indices) <= 0):
            raise ValueError(f"selection {indices!r}: expected ascending integer indices below {visual_tokens}")
        rows.append(np.concatenate(([0], 1 + indices, np.arange(1 + visual_tokens, count))))
    if len({len(row) for row in rows}) > 1:
        raise ValueError("selections keep different numbers of tokens; a batch needs the same number for every sample")
    return torch.from_numpy(np.stack(rows))


def load_language(
    part: Part, architecture: Mapping[str, int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> LanguageModel:
    """Build the language model from the `llm_backbone` part of a checkpoint.

    Raises:
        CheckpointError: The tensors are not those of a Llama model.
    """
    shape = language_shape(part, architecture)
    part.check(language_layout(shape))
    with torch.device("meta"):
        model = LanguageModel(shape)
    part.load(model, lambda name: Source(f"llm.model.{name}"), dtype, device)
    return model
