"""Vision towers, projector and action head against golden data, part by part."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sqap_vla_ros.policies.cogact.action_head import (
    ActionHeadShape,
    action_head_layout,
    load_action_head,
    step_features,
)
from sqap_vla_ros.vlm.language import LanguageShape, language_layout
from sqap_vla_ros.vlm.projector import projector_layout
from sqap_vla_ros.vlm.vision import TowerShape, tower_layout
from sqap_vla_ros.vlm.weights import Part


@pytest.fixture(scope="module")
def head(golden, heads, golden_run):
    weights = load_file(golden_run.parent.parent / "dit" / "dit_weights.safetensors")
    return load_action_head(Part("action_model", weights), heads)


@pytest.mark.parametrize("picture", ["pattern", "astronaut"])
@pytest.mark.parametrize("tower", ["dino", "siglip"])
def test_tower_gives_the_reference_features(golden, golden_model, picture, tower):
    pixels = torch.from_numpy(golden("vision/pixel_values.npz")[f"{picture}_{tower}"])[None]
    features = getattr(golden_model.vision, tower)(pixels)
    np.testing.assert_allclose(features, golden("vision/features.npz")[f"{picture}_{tower}"], rtol=0, atol=2e-5)


def test_towers_leave_out_their_last_block(golden_model):
    assert len(golden_model.vision.dino.blocks) == golden_model.vision.dino.shape.depth - 1 == 3
    assert len(golden_model.vision.siglip.blocks) == golden_model.vision.siglip.shape.depth - 1 == 4


def test_projector_gives_the_reference_embeddings(golden, golden_model):
    io = golden("projector/projector_io.npz")
    projected = golden_model.projector(torch.from_numpy(io["random_in"]))
    np.testing.assert_allclose(projected, io["random_out"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("picture", ["pattern", "astronaut"])
def test_dino_features_come_before_siglip_s(golden, golden_model, picture):
    pixels = golden("vision/pixel_values.npz")
    towers = [torch.from_numpy(pixels[f"{picture}_{tower}"])[None] for tower in ("dino", "siglip")]
    projected = golden_model.projector(golden_model.vision(*towers))
    expected = golden("projector/projector_io.npz")[f"{picture}_out"]
    np.testing.assert_allclose(projected, expected, rtol=0, atol=1e-5)


def test_action_head_reads_its_sizes_off_the_weights(head):
    assert head.shape == ActionHeadShape(40, 3, 4, 160, token_size=24, action_dim=7, horizon=10)


def test_action_head_gives_the_reference_noise(golden, head):
    io = golden("dit/dit_io.npz")
    x, t, z = (torch.from_numpy(io[f"fwd_{name}"]) for name in "xtz")
    np.testing.assert_allclose(step_features(t), io["fwd_t_freq"], rtol=0, atol=5e-6)
    np.testing.assert_allclose(head.embed_steps(t), io["fwd_t_embed"], rtol=0, atol=5e-6)
    np.testing.assert_allclose(head(x, t, z), io["fwd_out"], rtol=0, atol=5e-6)


@pytest.mark.parametrize("guidance", [1.5, 3.0])
def test_guided_action_head_gives_the_reference_noise(golden, head, guidance):
    io = golden("dit/dit_io.npz")
    x, t = (torch.from_numpy(io[f"cfg_{name}"])[:3] for name in "xt")
    noise = head.forward_with_guidance(x, t, torch.from_numpy(io["cfg_z_cond"]), guidance)
    np.testing.assert_allclose(noise.repeat(2, 1, 1), io[f"cfg{guidance}_out"], rtol=0, atol=5e-6)


def test_mlp_hidden_sizes_need_not_be_four_times_the_width(heads):
    shape = ActionHeadShape(24, 2, 4, 70, token_size=10, action_dim=7, horizon=5)
    tensors = {name: torch.zeros(size) for name, size in action_head_layout(shape).required.items()}
    assert load_action_head(Part("action_model", tensors), heads).shape == shape


# Sizes of CogACT-Base and counts of its tensors and parameters, from the published classes.
def _counts(*layouts):
    tensors = [size for layout in layouts for size in {**layout.required, **layout.optional}.values()]
    return len(tensors), sum(int(np.prod(size)) for size in tensors)


def test_published_vision_layout_has_the_published_counts():
    dino = TowerShape("dino", 1024, 24, 16, 4096, grid=16, patch_px=14, registers=4)
    siglip = TowerShape("siglip", 1152, 27, 16, 4304, grid=16, patch_px=14)
    assert _counts(tower_layout(dino), tower_layout(siglip)) == (685, 303_230_976 + 427_680_704)


def test_published_projector_layout_has_the_published_counts():
    assert _counts(projector_layout(2176, 8704, 4096)) == (6, 71_385_600)


def test_published_language_layout_has_the_published_counts():
    assert _counts(language_layout(LanguageShape(4096, 32, 32, 32, 128, 11008, 32064))) == (291, 6_738_939_904)


@pytest.mark.parametrize(
    ("width", "depth", "count", "parameters"),
    [(384, 6, 62, 12_476_807), (768, 12, 110, 88_986_887), (1024, 24, 206, 307_764_231)],
)
def test_published_action_head_layout_has_the_published_counts(width, depth, count, parameters):
    shape = ActionHeadShape(width, depth, 4, 4 * width, token_size=4096, action_dim=7, horizon=16)
    assert _counts(action_head_layout(shape)) == (count, parameters)
