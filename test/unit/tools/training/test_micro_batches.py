"""Threads that share a batch leave the gradients that one would."""

from collections.abc import Iterator

import pytest
import torch
from drawn_batches import drawn_batch, drawn_noise, tiny_learner

from sqap_vla_ros.tools.training.losses import Batch, Learner, SeededNoise
from sqap_vla_ros.tools.training.micro_batches import MicroBatches, split
from sqap_vla_ros.tools.training.settings import TrainingSettings

_FRAMES, _DRAWS = 16, 3


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _drawn() -> tuple[Batch, SeededNoise]:
    return drawn_batch(_FRAMES), drawn_noise(_FRAMES, _DRAWS, 0.2)


@pytest.fixture
def learners() -> tuple[Learner, Learner]:
    """Two that are alike."""
    one, other = tiny_learner(), tiny_learner()
    other.load_state_dict(one.state_dict())
    return one, other


def _gradients(learner: Learner) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


@pytest.mark.usefixtures("_two_threads")
def test_two_threads_leave_the_gradients_of_one(learners: tuple[Learner, Learner]) -> None:
    batch, draws = _drawn()
    together, alone = learners
    two = MicroBatches(together, TrainingSettings(batch=_FRAMES))
    one = MicroBatches(alone, TrainingSettings(batch=_FRAMES // 2))
    assert (two.count, one.count) == (2, 1)
    losses, expected = two.backward(batch, draws), one.backward(batch, draws)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=5e-3, atol=1e-4)
    found, wanted = _gradients(together), _gradients(alone)
    assert torch.nn.functional.cosine_similarity(found, wanted, dim=0) > 0.999
    assert float(found.norm() / wanted.norm()) == pytest.approx(1, abs=0.01)


@pytest.mark.usefixtures("_two_threads")
def test_all_threads_see_the_weights_of_the_last_step() -> None:
    batch, draws = _drawn()
    learner = tiny_learner()
    shares = MicroBatches(learner, TrainingSettings(batch=_FRAMES))
    before = shares.backward(batch, draws)["noise"]
    with torch.no_grad():
        learner.network.action_head.final_layer["linear"].weight.zero_()
        learner.network.action_head.final_layer["linear"].bias.zero_()
    learner.zero_grad(set_to_none=True)
    after = shares.backward(batch, draws)["noise"]
    # Nothing is predicted: what is left is the noise, of variance one.
    assert float(after) == pytest.approx(float(draws.values.square().mean()), rel=1e-3)
    assert float(before) != pytest.approx(float(after), rel=1e-3)


def test_shares_of_a_batch_keep_each_frame_with_its_draws() -> None:
    batch, draws = _drawn()
    numbered = SeededNoise(draws.values, torch.arange(_FRAMES).repeat(_DRAWS), draws.dropped)
    (first, its_draws), (second, other_draws) = split(batch, numbered, 2)
    assert torch.equal(torch.cat((first.images, second.images)), batch.images)
    assert its_draws.steps.tolist() == list(range(8)) * _DRAWS
    assert other_draws.steps.tolist() == list(range(8, 16)) * _DRAWS
    assert its_draws.values.shape == (8 * _DRAWS, 16, 7)
