"""Which layers of the language model matter, and the model without the others."""

import numpy as np
import pytest
import torch
from small_language import random_language

from sqap_vla_ros.policies.cogact.layer_importance import drawn_frames, layer_importance
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.vlm.language import load_language
from sqap_vla_ros.vlm.preprocessing import normalise, resize
from sqap_vla_ros.vlm.weights import Part

IDS = torch.tensor([[1, 5, 6, 7, 2]])


def stream_behind(model, depth, image, ids):
    """Residual stream (positions, width) behind the first `depth` layers."""
    language = model.language.without_layers(range(depth, len(model.language.layers)))
    language.norm = torch.nn.Identity()
    shallow = CogACT(model.vision, model.projector, language, model.action_head)
    visual = model.projector(model.vision(*normalise(torch.from_numpy(resize(image))[None])))
    return shallow.prefill(visual, ids, all_positions=True).last_hidden[0]


@torch.no_grad()
def test_importance_is_one_minus_the_cosine_of_what_goes_in_and_what_comes_out(golden_model):
    frames = drawn_frames(IDS)[:2]
    streams = [torch.cat([stream_behind(golden_model, depth, *frame) for frame in frames]) for depth in range(4)]
    expected = [
        1 - (before @ after / (before.norm() * after.norm()))
        for depth in range(3)
        for before, after in zip(streams[depth].double(), streams[depth + 1].double(), strict=True)
    ]
    expected = torch.stack(expected).view(3, -1).mean(1)
    np.testing.assert_allclose(layer_importance(golden_model, frames), expected, rtol=0, atol=1e-6)


def test_a_layer_that_changes_nothing_has_no_importance(golden_model):
    language = golden_model.language.without_layers([])
    language.layers[1] = random_language(1).layers[0]
    for linear in (language.layers[1].self_attn.o_proj, language.layers[1].mlp.down_proj):
        torch.nn.init.zeros_(linear.weight)
    model = CogACT(golden_model.vision, golden_model.projector, language, golden_model.action_head)
    importance = layer_importance(model, drawn_frames(IDS)[:1])
    assert abs(importance[1]) < 1e-6 and min(importance[[0, 2]]) > 1e-3


def test_importance_needs_a_frame(golden_model):
    with pytest.raises(ValueError, match="no frames"):
        layer_importance(golden_model, [])


def test_drawn_frames_are_always_the_same_and_differ_from_each_other():
    first, again = drawn_frames(IDS), drawn_frames(IDS)
    assert all(np.array_equal(one, other) for (one, _), (other, _) in zip(first, again, strict=True))
    assert not np.array_equal(first[0][0], first[1][0])


@torch.no_grad()
def test_a_model_without_layers_is_one_built_without_them():
    whole = random_language(5)
    tensors = {f"llm.model.{name}": value for name, value in whole.state_dict().items()}
    for index in (1, 3):
        tensors = {name: value for name, value in tensors.items() if f".layers.{index}." not in name}
    built = {
        name.replace(".layers.2.", ".layers.1.").replace(".layers.4.", ".layers.2."): value
        for name, value in tensors.items()
    }
    embeddings = torch.randn(1, 270, 32, generator=torch.Generator().manual_seed(0))
    shortened = whole.without_layers((1, 3))
    assert shortened.shape.depth == 3 and len(whole.layers) == 5
    expected = load_language(Part("llm_backbone", built), {"llm_heads": 4}).prefill(embeddings, 256).cognition
    assert torch.equal(shortened.prefill(embeddings, 256).cognition, expected)
