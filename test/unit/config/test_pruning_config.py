"""The pruning part of a policy file."""

import re

import pytest

from sqap_vla_ros.config.files import ConfigurationError, config_directory, read_yaml
from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.pruning import EfficientVlaConfig, SqapConfig, VlaCacheConfig
from sqap_vla_ros.config.settings import validate


@pytest.mark.parametrize("ratio, keep", [(0.0, 256), (0.3, 179), (0.4, 154), (0.5, 128), (0.6, 102)])
def test_keep_is_what_the_ratio_leaves(ratio, keep):
    assert SqapConfig(ratio=ratio).keep == keep


def test_half_a_token_rounds_to_even():
    assert SqapConfig(ratio=0.5 / 256).keep == 256
    assert SqapConfig(ratio=1.5 / 256).keep == 254


def test_attention_takes_its_fraction_of_the_kept_tokens():
    assert SqapConfig(ratio=0.4, attention_fraction=0.2).top_k == 31


@pytest.mark.parametrize(
    "policy, keep", [("sqap", 154), ("random", 154), ("fastv", 154), ("efficientvla", 112), ("vla_cache", 256)]
)
def test_every_policy_file_is_valid_and_keeps_its_number_of_tokens(policy, keep):
    config = validate(PolicyConfig, read_yaml(config_directory() / "policies" / f"{policy}.yaml"), policy)
    assert config.name == policy and config.pruning.method == policy and config.pruning.keep == keep


@pytest.mark.parametrize("method", [SqapConfig, EfficientVlaConfig, VlaCacheConfig])
def test_the_policy_files_state_the_defaults(method):
    stated = read_yaml(config_directory() / "policies" / f"{method().method}.yaml")["pruning"]
    assert validate(method, stated, "policy file") == method()


def test_a_ring_of_exactly_the_quota_fits():
    assert SqapConfig(ratio=1 - 25 / 256, attention_fraction=0, ring_radius=2).keep == 25


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"ratio": 0.9, "attention_fraction": 0.2}, "ratio 0.9 keeps 26 tokens, fewer than attention \\(5\\) and ring"),
        ({"ratio": 0.4, "attention_fraction": 1.0}, "keeps 154 tokens, fewer than attention \\(154\\)"),
        ({"ratio": 0.4, "ring_radius": 7}, "ring \\(up to 225\\) may need; lower ratio"),
        ({"ratio": 0.999, "attention_fraction": 0, "ring_radius": 0}, "keeps 0 tokens"),
        ({"ratio": 1.0}, "ratio = 1.0"),
        ({"ratio": -0.1}, "ratio = -0.1"),
        ({"prune_before_layer": 0}, "prune_before_layer = 0"),
        ({"ring_radius": -1}, "ring_radius = -1"),
        ({"method": "fastv"}, "method = 'fastv'"),
        ({"ratios": 0.4}, "'ratios' is not a setting; did you mean 'ratio'"),
    ],
)
def test_a_bad_setting_is_refused_in_words(values, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        validate(SqapConfig, values, "policy.yaml")


@pytest.mark.parametrize(
    "pruning, sentence",
    [
        (
            {"method": "fastvv"},
            "pruning.method = 'fastvv': expected one of sqap, random, fastv, efficientvla, vla_cache",
        ),
        ({"ratio": 0.4}, "pruning.method = None: expected one of sqap"),
        ({"method": "fastv", "ratio": 1.5}, "pruning.ratio = 1.5: Input should be less than 1"),
        ({"method": "random", "ratio": 0.999}, "ratio 0.999 keeps 0 tokens; lower ratio"),
        ({"method": "random", "prune_before_layer": 2}, "'pruning.prune_before_layer' is not a setting"),
        ({"method": "efficientvla", "key_tokns": 4}, "did you mean 'pruning.key_tokens'"),
        ({"method": "efficientvla", "key_tokens": 113}, "keeps 112 tokens, fewer than key_tokens = 113"),
        ({"method": "efficientvla", "drop_layers": [-1]}, "pruning.drop_layers.0 = -1"),
        ({"method": "vla_cache", "reuse_before_layers": [0, 2]}, "pruning.reuse_before_layers.0 = 0"),
        ({"method": "vla_cache", "similarity": 1.1}, "pruning.similarity = 1.1"),
    ],
)
def test_a_bad_setting_of_a_policy_file_is_refused_under_the_name_that_it_has_there(pruning, sentence):
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        validate(PolicyConfig, {"name": "mine", "pruning": pruning}, "mine.yaml")
