"""Every policy file that ships, on a small random checkpoint: what is kept, what is carried, what is refused."""

import numpy as np
import pytest
import torch

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.policies.cogact.load import load_cogact_policy
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint

KEPT = {"fp16": 256, "sqap": 154, "random": 154, "fastv": 154, "efficientvla": 112, "vla_cache": 256}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 240, 320, 3), np.uint8)


def observe(stamp_ns=7, image=0):
    return Observation(stamp_ns, IMAGES[image], "open the top drawer", np.eye(4), np.array([160.0, 120.0]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four layers, so that EfficientVLA may drop one and VLA-Cache reuses in two."""
    return write_random_checkpoint(tmp_path_factory.mktemp("small"), "small")


@pytest.fixture(scope="module")
def load(run):
    def policy(name="", **pruning):
        configuration = load_configuration("libero_panda", policy=name or "sqap", checkpoint=str(run), device="cpu")
        if name:
            return load_policy(configuration, lambda text: None)
        config = PolicyConfig.model_validate({"name": "mine", "pruning": pruning})
        return load_cogact_policy(config, configuration, lambda text: None)

    return policy


@pytest.fixture(scope="module", params=KEPT)
def policy(request, load):
    return load(request.param)


def test_a_policy_keeps_as_many_tokens_as_it_says(policy):
    selection = policy.plan(observe()).selection
    assert len(selection.indices) == policy.metadata.kept_tokens == KEPT[policy.metadata.policy]
    np.testing.assert_array_equal(selection.indices, np.flatnonzero(selection.reasons))


def test_the_same_observations_after_a_reset_give_the_same_bits(policy):
    def two_plans():
        policy.reset()
        return [policy.plan(observe(stamp, image)).actions.tobytes() for stamp, image in ((1, 0), (2, 1))]

    assert two_plans() == two_plans()


def test_only_vla_cache_carries_anything_from_plan_to_plan(policy):
    policy.reset()
    alone = policy.plan(observe(2, 0)).selection.reasons
    policy.reset()
    policy.plan(observe(1, 0))
    after = policy.plan(observe(2, 0)).selection.reasons
    assert np.array_equal(alone, after) == (policy.metadata.policy != "vla_cache")


def test_vla_cache_plans_like_the_dense_policy_first_and_then_reuses_what_did_not_change(load):
    cached, dense = load("vla_cache"), load("fp16")
    assert cached.plan(observe()).actions.tobytes() == dense.plan(observe()).actions.tobytes()
    still = cached.plan(observe())
    assert np.count_nonzero(still.selection.reasons == Reason.OTHER) > 20
    # Nothing moved, so that what was reused is what would have been computed.
    np.testing.assert_allclose(still.actions, dense.plan(observe()).actions, rtol=0, atol=1e-6)
    assert cached.plan(observe(7, 1)).actions.tobytes() == dense.plan(observe(7, 1)).actions.tobytes()


def test_random_tokens_follow_the_stamp(load):
    policy = load("random")
    one, other = (policy.plan(observe(stamp)).selection.indices for stamp in (1, 2))
    assert not np.array_equal(one, other)


def test_efficientvla_measures_which_layers_go_and_always_finds_the_same(load):
    one, other = (load(method="efficientvla", layer_ratio=0.25) for _ in range(2))
    whole = load(method="efficientvla", layer_ratio=0.0)
    assert one.metadata.parameters == other.metadata.parameters < whole.metadata.parameters
    assert one.plan(observe()).actions.tobytes() == other.plan(observe()).actions.tobytes()


def test_efficientvla_drops_the_layers_that_it_is_told_to(load):
    named = [load(method="efficientvla", drop_layers=[layer]).plan(observe()).actions for layer in range(2)]
    assert not np.array_equal(*named)


@pytest.mark.parametrize(
    ("pruning", "sentence"),
    [
        ({"method": "fastv", "prune_before_layer": 4}, r"prune_before_layer = 4: .* has 4 layers, give at most 3"),
        ({"method": "efficientvla", "drop_layers": [1, 4]}, r"drop_layers = \[1, 4\]: the layers are 0 to 3"),
        ({"method": "efficientvla", "drop_layers": [0, 1]}, r"prune_before_layer = 2: .* has 2 layers"),
    ],
)
def test_layers_that_the_checkpoint_does_not_have_are_refused_when_loading(load, pruning, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        load(**pruning)


class LayerOfItsOwn(torch.nn.Module):
    """A decoder layer with the three methods that are asked of one and nothing else, as a quantised layer is."""

    def __init__(self, layer):
        super().__init__()
        self.project = layer.project
        self.add_attention = layer.add_attention
        self.add_feed_forward = layer.add_feed_forward


@pytest.mark.parametrize("name", [name for name in KEPT if name != "fp16"])
def test_every_policy_asks_a_layer_for_its_three_methods_alone(load, name):
    policy = load(name)
    expected = [policy.plan(observe()).actions for _ in range(2)]
    policy.reset()
    language = policy._model.language
    language.layers = torch.nn.ModuleList(LayerOfItsOwn(layer) for layer in language.layers)
    for actions in expected:
        np.testing.assert_array_equal(policy.plan(observe()).actions, actions)
