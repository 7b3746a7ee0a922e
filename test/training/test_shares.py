"""Threads that share a batch leave the gradients that one would."""

from collections.abc import Iterator

import pytest
import torch

from sqap_vla_ros.training.losses import Batch, Draws, Learner, draw
from sqap_vla_ros.training.network import SIZES, fresh_network
from sqap_vla_ros.training.settings import TrainingSettings
from sqap_vla_ros.training.shares import Shares, split

_FRAMES, _DRAWS = 16, 3


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _learner() -> Learner:
    torch.manual_seed(0)
    learner = Learner(fresh_network(SIZES["tiny"], 40, seed=0))
    last = learner.network.action_head.final_layer["linear"].weight
    torch.nn.init.normal_(last, std=0.1, generator=torch.Generator().manual_seed(5))
    return learner


def _drawn() -> tuple[Batch, Draws]:
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        images=torch.randint(0, 256, (_FRAMES, 224, 224, 3), generator=generator, dtype=torch.uint8),
        input_ids=torch.randint(0, 40, (_FRAMES, 24), generator=generator),
        text_mask=torch.arange(24).expand(_FRAMES, -1) < 20,
        actions=torch.randn((_FRAMES, 16, 7), generator=generator).clamp(-1, 1),
        valid=torch.ones(_FRAMES, 16, dtype=torch.bool),
        points_px=torch.rand((_FRAMES, 3, 2), generator=generator) * 224,
        points_m=torch.rand((_FRAMES, 3, 3), generator=generator),
        phase=torch.randint(0, 4, (_FRAMES,), generator=generator),
    )
    return batch, draw((_FRAMES, 16, 7), _DRAWS, 0.2, generator)


def _gradients(learner: Learner) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])


@pytest.mark.usefixtures("_two_threads")
def test_two_threads_leave_the_gradients_of_one() -> None:
    batch, draws = _drawn()
    together, alone = _learner(), _learner()
    two = Shares(together, TrainingSettings(batch=_FRAMES))
    one = Shares(alone, TrainingSettings(batch=_FRAMES // 2))
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
    learner = _learner()
    shares = Shares(learner, TrainingSettings(batch=_FRAMES))
    before = shares.backward(batch, draws)["noise"]
    with torch.no_grad():
        learner.network.action_head.final_layer["linear"].weight.zero_()
        learner.network.action_head.final_layer["linear"].bias.zero_()
    learner.zero_grad(set_to_none=True)
    after = shares.backward(batch, draws)["noise"]
    # Nothing is predicted: what is left is the noise, of variance one.
    assert float(after) == pytest.approx(float(draws.noise.square().mean()), rel=1e-3)
    assert float(before) != pytest.approx(float(after), rel=1e-3)


def test_shares_of_a_batch_keep_each_frame_with_its_draws() -> None:
    batch, draws = _drawn()
    numbered = Draws(draws.noise, torch.arange(_FRAMES).repeat(_DRAWS), draws.dropped)
    (first, its_draws), (second, other_draws) = split(batch, numbered, 2)
    assert torch.equal(torch.cat((first.images, second.images)), batch.images)
    assert its_draws.steps.tolist() == list(range(8)) * _DRAWS
    assert other_draws.steps.tolist() == list(range(8, 16)) * _DRAWS
    assert its_draws.noise.shape == (8 * _DRAWS, 16, 7)
