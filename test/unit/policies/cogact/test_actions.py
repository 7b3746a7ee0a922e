"""Denormalisation, ensemble and the SIMPLER form of actions, against golden data and on bad input."""

import json

import numpy as np
import pytest

from sqap_vla_ros.policies.cogact.ensemble import AdaptiveEnsemble
from sqap_vla_ros.simulation.simpler.convention import SETUPS, SimplerActions
from sqap_vla_ros.vlm.statistics import choose_statistics, denormalise, normalised_actions, read_statistics
from sqap_vla_ros.vlm.weights import CheckpointError


@pytest.fixture(scope="module")
def statistics(golden_run):
    return read_statistics(golden_run / "dataset_statistics.json")


@pytest.mark.parametrize("key", ["bridge_orig", "fractal20220817_data", "no_mask_set"])
def test_denormalised_actions_are_the_reference_s(golden, statistics, key):
    expected = golden("unnorm/unnorm.npz")
    normalised = normalised_actions(expected[f"{key}_raw"])
    actions = denormalise(normalised, statistics[key])
    assert normalised.dtype == np.float32 and actions.dtype == np.float64
    np.testing.assert_array_equal(normalised, expected[f"{key}_normalized"])
    np.testing.assert_allclose(actions, expected[f"{key}_actions"], rtol=0, atol=1e-12)


def test_a_gripper_at_one_half_is_open():
    raw = np.zeros((2, 7), np.float32)
    raw[:, 6] = 0.5, np.nextafter(np.float32(0.5), np.float32(0))
    np.testing.assert_array_equal(normalised_actions(raw)[:, 6], [1, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(value):
    raw = np.zeros((16, 7), np.float32)
    raw[3, 6] = value
    with pytest.raises(ValueError, match="not finite"):
        normalised_actions(raw)


def test_an_unknown_statistics_key_is_answered_with_those_there_are(statistics):
    with pytest.raises(
        ValueError, match="'bridge' is not in the checkpoint.*bridge_orig, fractal20220817_data, no_mask"
    ):
        choose_statistics(statistics, "bridge")


def test_no_statistics_key_is_an_error_with_several_data_sets(statistics):
    with pytest.raises(ValueError, match="3 data sets; choose one of: bridge_orig"):
        choose_statistics(statistics, None)


def test_no_statistics_key_is_fine_with_one_data_set(statistics):
    only = {"no_mask_set": statistics["no_mask_set"]}
    assert choose_statistics(only, None) is only["no_mask_set"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "expected data set keys"),
        ("{", "cannot be read as JSON"),
        (json.dumps({"a": {"action": {"q01": [0.0]}}}), "a: expected 'action' with number lists.*q99"),
        (json.dumps({"a": {"action": {"q01": [0.0], "q99": [0.0, 1.0]}}}), "of one length"),
        (json.dumps({"a": {"action": {"q01": [0.0], "q99": [float("nan")]}}}), "not finite"),
    ],
)
def test_broken_statistics_are_named(tmp_path, content, message):
    path = tmp_path / "dataset_statistics.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_statistics(path)


@pytest.mark.parametrize("sequence", [0, 1, 2, 3])
def test_ensemble_mixes_as_the_reference_does(golden, sequence):
    case, arrays = golden("ensemble/ensemble.json")[sequence], golden("ensemble/ensemble.npz")
    name = f"s{case['seq']}" if sequence < 3 else "s_1d"
    ensemble = AdaptiveEnsemble(case["horizon"], case["alpha"])
    mixed = [ensemble.mix(chunk) for chunk in arrays[f"{name}_chunks"]]
    np.testing.assert_allclose(mixed, arrays[f"{name}_out"], rtol=0, atol=1e-9)


def test_ensemble_forgets_at_reset(golden):
    case, arrays = golden("ensemble/ensemble.json")[3], golden("ensemble/ensemble.npz")
    ensemble = AdaptiveEnsemble(case["horizon"], case["alpha"])
    for chunk in arrays["s_1d_chunks"][:3]:
        ensemble.mix(chunk)
    ensemble.reset()
    mixed = ensemble.mix(arrays["s_1d_chunks"][3])
    np.testing.assert_allclose([mixed], arrays["s_1d_after_reset_out"], rtol=0, atol=1e-9)


def test_ensemble_refuses_chunks_that_are_shorter_than_its_horizon():
    with pytest.raises(ValueError, match="4 actions is shorter than the ensemble horizon 5"):
        AdaptiveEnsemble(5, 0.1).mix(np.zeros((4, 7)))


@pytest.mark.parametrize("case", [0, 1, 2])
def test_simpler_actions_are_the_reference_s(golden, case):
    settings, arrays = golden("policy/policy.json")[case], golden("policy/policy.npz")
    setup = SETUPS[settings["policy_setup"]]
    assert (setup.statistics_key, setup.ensemble_horizon) == (settings["unnorm_key"], settings["ensemble_horizon"])
    actions = SimplerActions(setup, settings["action_scale"], settings["alpha"])
    for index, chunk in enumerate(arrays[f"{settings['name']}_chunks"]):
        raw, taken = actions.step(chunk, "a" if index < settings["task_change_at_step"] else "b")
        for kind, values in (("raw", raw), ("act", taken)):
            for name, value in values.items():
                expected = arrays[f"{settings['name']}_{kind}_{name}"][index]
                np.testing.assert_allclose(value, expected, rtol=0, atol=1e-9, err_msg=f"step {index}: {name}")
