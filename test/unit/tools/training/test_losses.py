"""What is minimised."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_batches import drawn_batch, drawn_noise, tiny_learner
from torch.nn import functional

from sqap_vla_ros.policies.cogact.diffusion import Ddim, process_schedule
from sqap_vla_ros.tools.training.losses import (
    AuxiliaryHeads,
    Learner,
    LossWeights,
    SeededNoise,
    add_noise,
    auxiliary_losses,
    draw_noise,
    noise_loss,
    point_errors,
    ways,
    weighted,
)
from sqap_vla_ros.tools.training.plain_attention import PlainAttention


@pytest.fixture(scope="module")
def learner() -> Learner:
    return tiny_learner()


def test_noised_actions_hold_signal_and_noise_as_the_schedule_says() -> None:
    draws = SeededNoise(torch.ones(2, 16, 7), torch.tensor([0, 99]), torch.zeros(2, dtype=torch.bool))
    noised = add_noise(torch.full((2, 16, 7), 3.0), draws)
    kept = process_schedule().alphas_cumprod[[0, 99]]
    np.testing.assert_allclose(noised[:, 0, 0], 3 * np.sqrt(kept) + np.sqrt(1 - kept), rtol=1e-6)


def test_the_sampler_recovers_actions_from_noise_that_is_predicted_exactly() -> None:
    actions = drawn_batch().actions

    class Oracle:
        """Knows the actions, and so the noise in what it is shown."""

        def embed_steps(self, t: torch.Tensor) -> torch.Tensor:
            return t

        def embed_condition(self, z: torch.Tensor) -> torch.Tensor:
            return z

        def run_blocks(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden

        def predict(self, x: torch.Tensor, step: torch.Tensor, *_: object) -> torch.Tensor:
            noiseless = SeededNoise(torch.zeros_like(x), step.expand(len(x)), torch.zeros(len(x), dtype=torch.bool))
            noise_only = replace(noiseless, values=torch.ones_like(x))
            signal = add_noise(actions, noiseless)
            return (x - signal) / add_noise(torch.zeros_like(x), noise_only)

    *_, (found, _) = Ddim(10).trajectory(Oracle(), torch.randn(2, 16, 7), torch.zeros(2, 1, 64), 1.0)  # type: ignore[arg-type]
    torch.testing.assert_close(found, actions, atol=1e-4, rtol=0)


def test_actions_that_are_not_to_be_imitated_count_nothing(learner: Learner) -> None:
    batch, cognition = drawn_batch(), torch.randn(2, 64, generator=torch.Generator().manual_seed(2))
    batch.valid[1, 5:] = False
    draws = drawn_noise()
    predicted = learner.network.action_head(
        add_noise(batch.actions.repeat(3, 1, 1), draws), draws.steps, cognition.repeat(3, 1)[:, None]
    )
    errors = (predicted - draws.values).square().view(3, 2, 16, 7)
    expected = torch.cat((errors[:, 0].flatten(), errors[:, 1, :5].flatten())).mean()
    torch.testing.assert_close(noise_loss(learner.network, cognition, batch, draws), expected)


def test_a_dropped_condition_is_the_null_condition(learner: Learner) -> None:
    batch, draws = drawn_batch(), drawn_noise(dropout=1.0)
    null = learner.network.action_head.z_embedder.uncondition.expand(2, -1)
    loss = noise_loss(learner.network, torch.randn(2, 64), batch, draws)
    kept = replace(draws, dropped=torch.zeros_like(draws.dropped))
    torch.testing.assert_close(loss, noise_loss(learner.network, null, batch, kept))


def test_errors_where_the_image_decides_weigh_more(learner: Learner) -> None:
    batch = drawn_batch()
    drawn = drawn_noise(draws=1)

    def share(step: int) -> float:
        with torch.no_grad():
            losses = learner.losses(batch, replace(drawn, steps=torch.full_like(drawn.steps, step)))
        return float(losses["motion"] / losses["noise"])

    products = process_schedule().alphas_cumprod
    assert share(50) / share(10) == pytest.approx(products[10] / products[50], rel=1e-4)
    assert share(99) == pytest.approx(20 * share(0), rel=0.01)
    assert np.mean([share(step) for step in range(100)]) == pytest.approx(1, rel=1e-4)


def test_conditions_are_dropped_in_the_share_asked_for() -> None:
    dropped = draw_noise((500, 1, 1), 8, 0.1, torch.Generator().manual_seed(0)).dropped
    assert dropped.float().mean() == pytest.approx(0.1, abs=0.02)


def test_the_whole_loss_reaches_every_weight(learner: Learner) -> None:
    learner.zero_grad()
    weighted(learner.losses(drawn_batch(), drawn_noise(dropout=0.5)), LossWeights()).backward()
    without = [name for name, p in learner.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_points_without_label_do_not_change_the_losses(learner: Learner) -> None:
    batch = drawn_batch()
    visual, cognition = torch.randn(2, 256, 64), torch.randn(2, 64)
    batch.points_px[0, 2] = torch.nan
    batch.points_px[1, 0, 0] = 230.0
    batch.points_m[1, 2] = torch.nan
    losses = auxiliary_losses(learner.auxiliary, visual, cognition, batch)
    assert all(loss.isfinite() for loss in losses.values())
    batch.points_px[1, 0, 0] = -40.0
    assert auxiliary_losses(learner.auxiliary, visual, cognition, batch) == losses


def test_heads_that_point_right_have_neither_loss_nor_error() -> None:
    heads = AuxiliaryHeads(64)
    batch = drawn_batch(1)
    batch.points_px[:] = torch.tensor([[35.0, 21.0], [77.0, 77.0], [7.0, 217.0]])
    patches = torch.tensor([1 * 16 + 2, 5 * 16 + 5, 15 * 16 + 0])
    visual = torch.zeros(1, 256, 64)
    visual[0, patches, torch.arange(3)] = 100.0
    with torch.no_grad():
        heads.key.weight.copy_(torch.eye(64))
        heads.key.bias.zero_()
        heads.query.weight.zero_()
        heads.query.bias.zero_()
        for point in range(3):
            heads.query.bias[64 * point + point] = 100.0
        heads.offset[2].weight.zero_()
        heads.offset[2].bias.fill_(0.5)
        losses = auxiliary_losses(heads, visual, torch.zeros(1, 64), batch)
        errors_px, _ = point_errors(heads, visual, torch.zeros(1, 64), batch)
    assert float(losses["pointer"]) == pytest.approx(0, abs=1e-4)
    assert float(losses["offset"]) == pytest.approx(0, abs=1e-6)
    assert errors_px == pytest.approx({"tool": 0, "object": 0, "goal": 0}, abs=1e-4)


def test_ways_lead_from_tool_to_object_to_goal() -> None:
    points = torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [0.1, 0.3, 0]]])
    torch.testing.assert_close(ways(points)[0, 3:], torch.tensor([[0.1, 0, 0], [0, 0.3, 0]]))


@pytest.mark.parametrize("is_causal", [False, True])
def test_plain_attention_is_fused_attention_rounded(is_causal: bool) -> None:
    query, key, value = torch.randn((3, 2, 4, 30, 32), generator=torch.Generator().manual_seed(0))
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
    with PlainAttention():
        found = functional.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.02)


def test_plain_attention_sees_what_the_mask_lets_it_see() -> None:
    query, key, value = torch.randn((3, 1, 2, 6, 32), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([True, True, False, True, False, False]).expand(1, 1, 6, 6)
    with PlainAttention():
        found = functional.scaled_dot_product_attention(query, key, value, mask)
    seen = functional.scaled_dot_product_attention(query, key[:, :, [0, 1, 3]], value[:, :, [0, 1, 3]])
    torch.testing.assert_close(found.float(), seen, atol=0.03, rtol=0.02)
