"""Heads, tables, state, gripper and normalisation alone, against the reference."""

import json

import numpy as np
import pytest
import torch
from openvla_data import GOLDEN, arrays, close

from sqap_vla_ros.policies.openvla.bins import CENTRES, EDGES, decode_tokens, encode_actions
from sqap_vla_ros.policies.openvla.denoising import Denoising, alphas_cumprod, betas, step_embedding, timesteps
from sqap_vla_ros.policies.openvla.state import axis_angle, simulator_gripper, tool_state
from sqap_vla_ros.policies.openvla.statistics import Bounds, DatasetStatistics, denormalise, normalise_state

NUMBERS = "numbers/numbers.npz"
KEYS = json.loads((GOLDEN / "numbers" / "numbers.json").read_text())["keys"]


@pytest.mark.parametrize(
    ("case", "name"), [("libero_0", "l1_libero"), ("film_0", "l1_aloha"), ("diffusion10_0", "noise_aloha")]
)
@torch.no_grad()
def test_a_head_alone_is_the_reference_s(case_of, case, name):
    stored = arrays("numbers/heads.npz")
    close(case_of(case).network.head(torch.from_numpy(stored[f"{name}_in"])), stored[f"{name}_out"], 5e-6)


@pytest.mark.parametrize(
    ("case", "module", "name"),
    [
        ("libero_0", "proprio", "proprio_libero"),
        ("film_0", "proprio", "proprio_aloha"),
        ("diffusion10_0", "noisy_action", "noisy_action"),
    ],
)
@torch.no_grad()
def test_a_projector_alone_is_the_reference_s(case_of, case, module, name):
    stored = arrays("numbers/heads.npz")
    projector = getattr(case_of(case).network, module)
    close(projector(torch.from_numpy(stored[f"{name}_in"])), stored[f"{name}_out"], 5e-6)


@pytest.mark.parametrize("name", ["discrete", "openvla"])
def test_bins_are_the_reference_s(name):
    stored = arrays(f"cases/{name}.npz")
    close(EDGES, stored["bins"], 1e-12)
    close(CENTRES, stored["bin_centers"], 1e-12)


def test_tokens_become_actions_and_back():
    stored = arrays("cases/openvla.npz")
    close(decode_tokens(stored["decode_ids"]), stored["decode_normalized"], 1e-12)
    np.testing.assert_array_equal(encode_actions(stored["encode_actions"]), stored["encode_ids"])
    assert decode_tokens(encode_actions(CENTRES)).tolist() == CENTRES.tolist()


def test_the_noise_schedule_is_the_reference_s():
    stored = arrays("cases/aloha.npz")
    close(betas(), stored["ddim_betas"], 1e-6)
    close(alphas_cumprod(), stored["ddim_alphas_cumprod"], 1e-6)
    close(step_embedding(torch.from_numpy(stored["time_encoder_t"]), 12), stored["time_encoder_out"], 1e-6)


def test_steps_of_a_sampler_end_at_zero():
    assert timesteps(7) == [42, 35, 28, 21, 14, 7, 0]
    for steps in (0, 51):
        with pytest.raises(ValueError, match=f"steps = {steps}: expected 1 to 50"):
            Denoising(steps)


def test_clean_actions_are_clipped_in_each_step():
    after = list(Denoising(5).trajectory(lambda x, step: torch.zeros_like(x), torch.full((1, 2, 3), 40.0)))
    assert after[-1][1].abs().max() == 1


def test_axis_angles_keep_the_sign_of_the_quaternion():
    stored = arrays(NUMBERS)
    close(axis_angle(stored["quat"]), stored["axis_angle"], 1e-12)
    assert np.linalg.norm(axis_angle(np.array([0.6, 0.0, 0.0, -0.8]))) > np.pi


@pytest.mark.parametrize("name", ["libero_0", "libero_1"])
def test_the_state_of_libero_is_the_reference_s(case_of, name):
    case = case_of(name)
    state = tool_state(*(case.array(quantity) for quantity in ("eef_pos", "eef_quat", "gripper_qpos")))
    close(state, case.array("state"), 1e-12)


def test_a_state_is_normalised_and_clipped(directory_of):
    stored = arrays(NUMBERS)
    for name, bounds in (
        ("libero", _bounds(directory_of, "libero_l1", "libero", "proprio", "bounds_q99")),
        ("aloha", _bounds(directory_of, "aloha_film", "aloha", "proprio", "bounds")),
        ("special", _special()),
    ):
        close(normalise_state(stored[f"proprio_{name}_in"], bounds), stored[f"proprio_{name}_out"], 1e-12)


def test_actions_are_denormalised_without_clipping(directory_of):
    stored = arrays(NUMBERS)
    libero = _bounds(directory_of, "libero_l1", "libero", "action", "bounds_q99")
    aloha = _bounds(directory_of, "aloha_film", "aloha", "action", "bounds")
    unmasked = Bounds(libero.low, libero.high, np.ones(7, bool))
    for name, bounds in (("libero", libero), ("libero_without_mask", unmasked), ("aloha", aloha)):
        given = stored[f"unnorm_{name}_in"]
        close(denormalise(given, bounds), stored[f"unnorm_{name}_out"], 1e-12)
        close(denormalise(given.astype(np.float64), bounds), stored[f"unnorm_{name}_out64"], 1e-12)


def test_a_mask_is_optional():
    content = {"action": {"q01": [0.0], "q99": [1.0]}}
    assert DatasetStatistics("key", "file: key", content).bounds("action", "bounds_q99").mask.tolist() == [True]


@pytest.mark.parametrize("name", ["libero_0", "libero_1", "single_0"])
def test_the_gripper_is_turned_for_the_simulator(case_of, name):
    case = case_of(name)
    close(simulator_gripper(case.array("actions")), case.array("env_actions"), 1e-12)


def test_a_gripper_in_the_middle_stays_where_it_is():
    stored = arrays(NUMBERS)
    close(simulator_gripper(stored["gripper_in"]), stored["gripper_env"], 1e-12)
    assert simulator_gripper(np.full((1, 7), 0.5))[0, 6] == 0


def _bounds(directory_of, checkpoint, key, quantity, normalisation):
    content = json.loads((directory_of(checkpoint) / "dataset_statistics.json").read_text())[KEYS[key]]
    return DatasetStatistics(KEYS[key], "file: key", content).bounds(quantity, normalisation)


def _special():
    content = json.loads((GOLDEN / "numbers" / "numbers.json").read_text())["proprio_special"]
    return DatasetStatistics("special", "file: key", {"proprio": content}).bounds("proprio", "bounds_q99")
