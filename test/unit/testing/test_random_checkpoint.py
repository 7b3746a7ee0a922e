"""The small random checkpoint: published layout, reproducible, moderate."""

import hashlib

import numpy as np
import pytest
import torch

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.testing.networks import SMALL
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.statistics import choose_statistics, denormalise
from sqap_vla_ros.vlm.tokenizer import load_tokenizer


@pytest.fixture(scope="module", params=sorted(SMALL))
def run(request, tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


def predict(run, images, instruction, **options):
    model, ids = load_cogact(open_checkpoint(run)), load_tokenizer(run).encode(instruction)
    noise = torch.randn(len(images), 16, 7, generator=torch.Generator().manual_seed(0))[:1].repeat(len(images), 1, 1)
    return model.plan(images, ids.repeat(len(images), 1), noise, **options)


def test_it_plans_from_its_own_tokenizer_and_statistics(run):
    prediction = predict(run, [np.zeros((48, 64, 3), np.uint8)], "open the drawer")
    actions = denormalise(prediction.normalised, choose_statistics(open_checkpoint(run).statistics, None))
    assert actions.shape == (1, 16, 7)
    assert np.abs(actions[..., :3]).max() <= 0.02 and np.abs(actions[..., 3:6]).max() <= 0.05
    assert set(np.unique(actions[..., 6])) <= {0.0, 1.0}


def test_not_all_its_actions_are_at_the_limits(run):
    prediction = predict(run, [np.zeros((48, 64, 3), np.uint8)], "open the drawer")
    assert np.mean(np.abs(prediction.normalised[..., :6]) < 1) > 0.25


def test_its_actions_depend_on_the_image_and_the_instruction(run):
    images = list(np.random.default_rng(0).integers(0, 255, (2, 48, 64, 3), dtype=np.uint8))
    one, other = predict(run, images, "open the drawer").raw_samples
    told = predict(run, images[:1], "push the plate").raw_samples[0]
    assert np.abs(one - other).max() > 1e-3 and np.abs(one - told).max() > 1e-3


def test_a_seed_means_the_same_bytes(tmp_path):
    digests = [
        hashlib.sha256(open_checkpoint(write_random_checkpoint(tmp_path / name, "tiny", seed)).weights.read_bytes())
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, same, other = (digest.hexdigest() for digest in digests)
    assert first == same != other


def test_a_seed_means_the_same_tokenizer(tmp_path):
    files = [write_random_checkpoint(tmp_path / name, "tiny") / "tokenizer.json" for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_small_one_has_about_two_million_parameters(tmp_path):
    model = load_cogact(open_checkpoint(write_random_checkpoint(tmp_path, "small")))
    count = sum(value.numel() for name, value in model.named_parameters() if "embed_tokens" not in name)
    assert 1_500_000 < count < 5_000_000


def test_a_directory_with_something_else_is_left_alone(tmp_path):
    statistics = tmp_path / "dataset_statistics.json"
    statistics.write_text("{}")
    with pytest.raises(ConfigurationError, match="not a random checkpoint"):
        write_random_checkpoint(tmp_path, "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset_statistics.json"]


def test_an_earlier_random_checkpoint_is_replaced(tmp_path):
    first = open_checkpoint(write_random_checkpoint(tmp_path, "tiny", seed=1)).sha256()
    assert open_checkpoint(write_random_checkpoint(tmp_path, "tiny", seed=2)).sha256() != first
