"""A small random language model of any depth, and its attention written out."""

import torch
from torch.nn import functional

from sqap_vla_ros.vlm.language import LanguageModel, LanguageShape, language_layout, load_language
from sqap_vla_ros.vlm.weights import Part

HEADS = 4


def random_language(depth: int, seed: int = 0) -> LanguageModel:
    """Width 32, four heads, attention that differs much from position to position."""
    shape = LanguageShape(32, depth, HEADS, HEADS, 8, 48, 16)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.ones(size) if "norm" in name else torch.randn(size, generator=generator) * 0.4
        for name, size in language_layout(shape).required.items()
    }
    return load_language(Part("llm_backbone", tensors), {"llm_heads": HEADS})


def written_out(queries, keys, values, positions):
    """Mixture (1, rows, channels) and probabilities of queries (heads, rows, width) at positions, with all keys."""
    logits = queries @ keys.transpose(1, 2) / queries.shape[-1] ** 0.5
    later = torch.arange(keys.shape[1]) > positions[:, None]
    probabilities = functional.softmax(logits.masked_fill(later, -torch.inf), dim=-1)
    return (probabilities @ values).transpose(0, 1).flatten(1)[None], probabilities
