"""The pruning part of a policy file."""

import pytest

from sqap_vla_ros.config import validate
from sqap_vla_ros.config_files import ConfigurationError, config_directory, read_yaml
from sqap_vla_ros.pruning.config import PruningConfig


@pytest.mark.parametrize("ratio, keep", [(0.0, 256), (0.3, 179), (0.4, 154), (0.5, 128), (0.6, 102)])
def test_keep_is_what_the_ratio_leaves(ratio, keep):
    assert PruningConfig(ratio=ratio).keep == keep


def test_half_a_token_rounds_to_even():
    assert PruningConfig(ratio=0.5 / 256).keep == 256
    assert PruningConfig(ratio=1.5 / 256).keep == 254


def test_attention_takes_its_fraction_of_the_kept_tokens():
    assert PruningConfig(ratio=0.4, attention_fraction=0.2).top_k == 31


def test_the_policy_file_is_valid_and_keeps_154_tokens():
    pruning = read_yaml(config_directory() / "policies" / "sqap.yaml")["pruning"]
    assert validate(PruningConfig, pruning, "sqap.yaml").keep == 154


def test_a_ring_of_exactly_the_quota_fits():
    assert PruningConfig(ratio=1 - 25 / 256, attention_fraction=0, ring_radius=2).keep == 25


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
        validate(PruningConfig, values, "policy.yaml")
