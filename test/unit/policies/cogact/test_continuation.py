"""Chunks that go on from committed actions: what is held, how much, and that nothing changes without them."""

import numpy as np
import pytest
import torch

from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.action_chunk import CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.policies.cogact.continuation import held_actions, soft_weights
from sqap_vla_ros.policies.cogact.diffusion import Ddim, Ddpm, Held, sample
from sqap_vla_ros.policies.cogact.load import load_cogact_policy
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.vlm.statistics import ActionStatistics, denormalise, normalise

MASK = np.array([True] * 6 + [False])
STATISTICS = ActionStatistics("test", np.full(7, -0.02), np.full(7, 0.04), MASK)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    run = write_random_checkpoint(tmp_path_factory.mktemp("tiny"), "tiny")
    configuration = load_configuration("libero_panda", checkpoint=str(run), device="cpu")
    return load_cogact_policy(PolicyConfig(name="mine"), configuration, lambda text: None)


def held(io, first, weight):
    """The first steps at 0.3 with this weight."""
    actions = torch.full_like(io["ddim_noise"], 0.3)
    weights = torch.zeros(actions.shape[1], 1)
    weights[:first] = weight
    return Held(actions, weights)


def samplers(io):
    return [Ddim(10), Ddim(4), Ddpm(io["ddpm100_step_noise_cond_half"])]


@pytest.mark.parametrize("which", range(3))
def test_steps_of_weight_one_end_exactly_at_what_is_held(head, io, which):
    drawn = sample(samplers(io)[which], head, io["ddim_noise"], io["ddim_z"], 1.5, held(io, 4, 1.0))
    assert torch.equal(drawn[:, :4], torch.full_like(drawn[:, :4], 0.3))


@pytest.mark.parametrize("which", range(3))
def test_steps_of_weight_zero_alone_are_drawn_as_if_nothing_were_held(head, io, which):
    free = sample(samplers(io)[which], head, io["ddim_noise"], io["ddim_z"], 1.5)
    drawn = sample(samplers(io)[which], head, io["ddim_noise"], io["ddim_z"], 1.5, held(io, 0, 1.0))
    assert torch.equal(drawn, free)


def test_free_steps_see_what_is_held(head, io):
    free = sample(Ddim(10), head, io["ddim_noise"], io["ddim_z"], 1.5)
    drawn = sample(Ddim(10), head, io["ddim_noise"], io["ddim_z"], 1.5, held(io, 4, 1.0))
    assert (drawn - free)[:, 4:].abs().max() > 1e-3


def test_a_larger_weight_pulls_nearer(head, io):
    def distance(weight):
        drawn = sample(Ddim(10), head, io["ddim_noise"], io["ddim_z"], 1.5, held(io, 16, weight))
        return (drawn - 0.3).abs().mean().item()

    assert distance(0.9) < distance(0.5) < distance(0.0)


def test_weights_fall_from_the_fixed_steps_to_the_end_of_the_overlap():
    weights = soft_weights(3, 10, 16)
    np.testing.assert_array_equal(weights[:3], 1.0)
    assert (np.diff(weights[2:11]) < 0).all()
    np.testing.assert_array_equal(weights[10:], 0.0)


def test_weights_are_those_of_the_paper():
    """Equation 5 with d = 2 and an overlap of 6 of 8 steps."""
    c = np.array([4 / 5, 3 / 5, 2 / 5, 1 / 5])
    expected = [1, 1, *(c * (np.exp(c) - 1) / (np.e - 1)), 0, 0]
    np.testing.assert_allclose(soft_weights(2, 6, 8), expected, atol=1e-12)


def test_normalising_undoes_denormalising():
    normalised = np.random.default_rng(0).uniform(-1, 1, (16, 7))
    np.testing.assert_allclose(normalise(denormalise(normalised, STATISTICS), STATISTICS), normalised, atol=1e-12)


def test_normalising_clips_to_what_denormalising_takes():
    np.testing.assert_array_equal(normalise(np.full((1, 7), 5.0), STATISTICS), np.ones((1, 7)))


def test_numbers_that_never_differ_in_the_data_set_normalise_to_zero():
    constant = ActionStatistics("test", np.zeros(7), np.zeros(7), MASK)
    np.testing.assert_array_equal(normalise(np.full((1, 7), 0.5), constant)[0, :6], 0.0)


def test_more_committed_actions_than_a_chunk_has_are_refused():
    with pytest.raises(ValueError, match="17 actions are committed, but a chunk has 16"):
        held_actions(CommittedActions(np.zeros((17, 7)), 1), STATISTICS, 16)


@pytest.mark.parametrize("steps", [0, 4])
def test_committed_steps_lie_within_the_actions_given(steps):
    with pytest.raises(ValueError, match=rf"committed steps = {steps}; expected 1 to 3"):
        CommittedActions(np.zeros((3, 7)), steps)


def observe():
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    return Observation(7, image, "open the drawer", np.eye(4), np.array([160.0, 120.0]))


def test_a_policy_keeps_committed_actions_and_says_how_many(policy):
    alone = policy.plan(observe())
    committed = CommittedActions(np.roll(alone.actions, 5, axis=0)[:10], 3)
    chunk = policy.plan(observe(), committed)
    np.testing.assert_allclose(chunk.actions[:3], committed.actions[:3], atol=1e-7)
    assert (alone.committed_steps, chunk.committed_steps) == (0, 3)
    assert np.abs(chunk.actions[3:] - alone.actions[3:]).max() > 1e-6


def test_the_same_committed_actions_give_the_same_bits(policy):
    committed = CommittedActions(policy.plan(observe()).actions[4:], 3)
    first, second = (policy.plan(observe(), committed).actions.tobytes() for _ in range(2))
    assert first == second
