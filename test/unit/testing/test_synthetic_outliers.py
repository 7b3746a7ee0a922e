"""Outlier channels that leave the network's function as it was."""

import numpy as np
import torch
from safetensors.torch import save_file

from sqap_vla_ros.policies.cogact.checkpoint import PARTS, load_cogact, read_parts
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.testing.synthetic_outliers import FACTOR, with_outliers
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.tokenizer import load_tokenizer


def test_outliers_change_inputs_and_not_actions(tmp_path):
    run = write_random_checkpoint(tmp_path / "run", size="tiny")
    checkpoint = open_checkpoint(run)
    parts = read_parts(checkpoint.weights)
    tensors = {f"{part}.{name}": tensor.clone() for part in PARTS for name, tensor in parts[part].tensors.items()}
    changed = with_outliers(tensors)
    gains = "llm_backbone.llm.model.layers.0.input_layernorm.weight"
    assert changed[gains].max() >= FACTOR * tensors[gains].max() * 0.99

    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    ids = load_tokenizer(run).encode("close the drawer")
    noise = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(0))
    before = load_cogact(checkpoint).plan(image, ids, noise)
    checkpoint.weights.unlink()
    shared = {name: tensor.contiguous().clone() for name, tensor in changed.items()}
    save_file(shared, checkpoint.weights.with_suffix(".safetensors"))
    after = load_cogact(open_checkpoint(run)).plan(image, ids, noise)
    np.testing.assert_allclose(after.cognition, before.cognition, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(after.raw_samples, before.raw_samples, rtol=1e-3, atol=1e-3)
