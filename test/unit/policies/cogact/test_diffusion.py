"""Noise schedules and samplers against golden data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sqap_vla_ros.policies.cogact.diffusion import Ddim, Ddpm, ddim_schedule, ddim_timesteps, process_schedule, sample


@pytest.mark.parametrize(
    "name",
    [
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
    ],
)
def test_process_schedule_is_the_reference_s(golden, name):
    expected = golden("schedule/schedule.npz")[f"ddpm100_{name}"]
    np.testing.assert_allclose(getattr(process_schedule(), name), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 10, 20, 25, 50, 100])
def test_ddim_schedule_is_the_reference_s(golden, steps):
    expected, schedule = golden("schedule/schedule.npz"), ddim_schedule(steps)
    np.testing.assert_array_equal(schedule.timesteps, expected[f"ddim{steps}_timestep_map"])
    for name in ("betas", "alphas_cumprod", "alphas_cumprod_prev"):
        np.testing.assert_allclose(getattr(schedule, name), expected[f"ddim{steps}_{name}"], rtol=1e-12, atol=1e-12)


def test_ddim_takes_just_the_step_counts_that_a_stride_gives(golden):
    valid = set(golden("schedule/schedule.npz")["valid_ddim_steps"].tolist())
    for steps in range(-1, 103):
        if steps in valid:
            assert len(ddim_timesteps(steps)) == steps
        else:
            with pytest.raises(ValueError, match=rf"DDIM steps = {steps}.*one of 1, 2.*100"):
                Ddim(steps)


@pytest.mark.parametrize(("steps", "guidance"), [(10, 1.5), (10, 1.0), (5, 1.5), (10, 7.0), (4, 2.0)])
def test_ddim_ends_where_the_reference_does(head, io, steps, guidance):
    final = sample(Ddim(steps), head, io["ddim_noise"], io["ddim_z"], guidance)
    np.testing.assert_allclose(final, io[f"ddim{steps}_cfg{guidance}_final"], rtol=0, atol=3e-5)


def test_ddim_takes_the_reference_s_way(head, io):
    steps = list(Ddim(10).trajectory(head, io["ddim_noise"], io["ddim_z"], 1.5))
    np.testing.assert_allclose(torch.stack([x for x, _ in steps]), io["ddim10_cfg1.5_x_steps"], rtol=0, atol=3e-5)
    np.testing.assert_allclose(torch.stack([x0 for _, x0 in steps]), io["ddim10_cfg1.5_x0_steps"], rtol=0, atol=3e-5)


def test_another_number_of_steps_on_the_same_head_is_not_ignored(head, io):
    five = sample(Ddim(5), head, io["ddim_noise"], io["ddim_z"], 1.5)
    ten = sample(Ddim(10), head, io["ddim_noise"], io["ddim_z"], 1.5)
    assert (five - ten).abs().max() > 0.01


def test_guidance_of_one_or_less_is_the_plain_conditional_prediction(head, io):
    finals = [sample(Ddim(4), head, io["ddim_noise"], io["ddim_z"], guidance) for guidance in (1.0, 0.3)]
    assert torch.equal(*finals)


def test_ddpm_ends_where_the_reference_does(head, io):
    sampler = Ddpm(io["ddpm100_step_noise_cond_half"])
    final, expected = sample(sampler, head, io["ddim_noise"], io["ddim_z"], 1.5), io["ddpm100_cfg1.5_final"]
    # Values reach 3000 with this untrained head, and small ones are differences of such: relative to the largest.
    np.testing.assert_allclose(final, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


def test_ddpm_refuses_step_noise_of_another_shape(head, io):
    with pytest.raises(ValueError, match=r"step_noise is \(50, .*expected \(100, "):
        sample(Ddpm(io["ddpm100_step_noise_cond_half"][:50]), head, io["ddim_noise"], io["ddim_z"])


SAMPLERS = {"ddim": lambda io: Ddim(10), "ddpm": lambda io: Ddpm(io["ddpm100_step_noise_cond_half"])}


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_reused_blocks_add_what_they_added_when_they_last_ran(head, io, guidance):
    """The published form: each attention's and each MLP's output kept and added again."""
    kept, calls = {}, 0

    def output_kept(module, _, output):
        if calls % 3 == 0:
            kept[module] = output
        return kept[module]

    def count(*_):
        nonlocal calls
        calls += 1

    hooks = [head.final_layer["linear"].register_forward_hook(count)]
    for block in head.blocks:
        hooks += [part.register_forward_hook(output_kept) for part in (block.attn, block.mlp.fc2)]
    expected = sample(Ddim(10), head, io["ddim_noise"], io["ddim_z"], guidance)
    for hook in hooks:
        hook.remove()
    reused = sample(Ddim(10, recompute_every=3), head, io["ddim_noise"], io["ddim_z"], guidance)
    np.testing.assert_allclose(reused, expected, rtol=0, atol=3e-5)
    assert (reused - sample(Ddim(10), head, io["ddim_noise"], io["ddim_z"], guidance)).abs().max() > 0.01


@pytest.mark.parametrize(("sampler", "runs"), [("ddim", 2), ("ddpm", 20)])
def test_blocks_run_at_every_fifth_step_from_the_first_on(head, io, sampler, runs):
    calls = []
    hook = head.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        sample(replace(SAMPLERS[sampler](io), recompute_every=5), head, io["ddim_noise"], io["ddim_z"])
    hook.remove()
    assert len(calls) == 2 * runs
