"""The whole network against golden data, in other number formats, and with pruning."""

import numpy as np
import pytest
import torch

from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.diffusion import Ddim
from sqap_vla_ros.vlm.statistics import denormalise


def plan(golden, model, case, **options):
    io, settings = golden("vla/vla_io.npz"), golden("vla/cases.json")[case]
    return model.plan(
        golden("vision/images.npz")[settings["image"]],
        torch.from_numpy(io[f"case{case}_input_ids"]),
        torch.from_numpy(io[f"case{case}_noise"]),
        sampler=Ddim(settings["num_ddim_steps"]),
        guidance=settings["cfg_scale"],
        **options,
    )


@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_a_plan_is_the_reference_s(golden, golden_model, golden_checkpoint, case):
    prediction, io = plan(golden, golden_model, case), golden("vla/vla_io.npz")
    statistics = golden_checkpoint.statistics[golden("vla/cases.json")[case]["unnorm_key"]]
    actions = denormalise(prediction.normalised[0], statistics)
    np.testing.assert_allclose(prediction.cognition, io[f"case{case}_cognition"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(prediction.raw_samples, io[f"case{case}_raw_samples"], rtol=0, atol=3e-5)
    np.testing.assert_allclose(prediction.normalised[0], io[f"case{case}_normalized_actions"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(prediction.normalised[0, :, 6], io[f"case{case}_normalized_actions"][:, 6])
    np.testing.assert_allclose(actions, io[f"case{case}_actions"], rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_the_sampler_takes_the_reference_s_way(golden, golden_model, case):
    io, settings = golden("vla/vla_io.npz"), golden("vla/cases.json")[case]
    noise, z = (torch.from_numpy(io[f"case{case}_{name}"]) for name in ("noise", "cognition"))
    steps = Ddim(settings["num_ddim_steps"]).trajectory(
        golden_model.action_head, noise, z[:, None], settings["cfg_scale"]
    )
    taken = torch.stack([x for x, _ in steps])
    np.testing.assert_allclose(taken, io[f"case{case}_ddim_steps_x"], rtol=0, atol=3e-5)


@torch.no_grad()
@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_hidden_states_are_the_reference_s(golden, golden_model, case):
    io, picture = golden("vla/vla_io.npz"), golden("vla/cases.json")[case]["image"]
    patches = torch.from_numpy(golden("projector/projector_io.npz")[f"{picture}_out"])
    prefill = golden_model.prefill(patches, torch.from_numpy(io[f"case{case}_input_ids"]), all_positions=True)
    np.testing.assert_allclose(prefill.last_hidden, io[f"case{case}_last_hidden"], rtol=0, atol=2e-5)


def batch(golden, model, **options):
    io, settings = golden("vla/vla_io.npz"), golden("vla/cases.json")[4]
    return model.plan(
        [golden("vision/images.npz")[picture] for picture in settings["images"]],
        torch.from_numpy(io["batch_input_ids"]),
        torch.from_numpy(io["batch_noise"]),
        attention_mask=torch.from_numpy(io["batch_attention_mask"]),
        **options,
    )


def test_a_padded_batch_is_the_reference_s(golden, golden_model, golden_checkpoint):
    prediction, io = batch(golden, golden_model), golden("vla/vla_io.npz")
    actions = denormalise(prediction.normalised, golden_checkpoint.statistics["bridge_orig"])
    np.testing.assert_allclose(prediction.cognition, io["batch_cognition"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(prediction.raw_samples, io["batch_raw_samples"], rtol=0, atol=3e-5)
    np.testing.assert_allclose(prediction.normalised, io["batch_normalized_actions"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(actions, io["batch_actions"], rtol=0, atol=1e-6)


def test_a_plan_with_pruning_reports_the_scores_it_was_given(golden, golden_model):
    seen = []

    def strongest(evidence):
        seen.append(evidence.scores)
        return np.sort(np.argsort(-evidence.scores)[:154])

    prediction = plan(golden, golden_model, 1, select=strongest)
    np.testing.assert_array_equal(prediction.scores, seen)
    assert not np.array_equal(prediction.raw_samples, plan(golden, golden_model, 1).raw_samples)


def test_a_plan_that_keeps_all_tokens_is_the_unpruned_one(golden, golden_model):
    kept = plan(golden, golden_model, 1, select=lambda evidence: np.arange(256))
    np.testing.assert_array_equal(kept.raw_samples, plan(golden, golden_model, 1).raw_samples)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
def test_a_half_precision_language_model_stays_near_the_reference(golden, golden_checkpoint, heads, dtype, tolerance):
    model = load_cogact(golden_checkpoint, architecture=heads, dtype=dtype)
    assert {parameter.dtype for parameter in model.action_head.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in model.language.parameters()} == {dtype}
    prediction, expected = plan(golden, model, 1), golden("vla/vla_io.npz")["case1_cognition"]
    assert np.linalg.norm(prediction.cognition - expected) < tolerance * np.linalg.norm(expected)


def test_a_plan_times_its_stages_in_order(golden, golden_model):
    timings = plan(golden, golden_model, 1).timings_s
    assert list(timings) == ["preprocess", "vision", "projector", "language", "action_head"]
    assert min(timings.values()) > 0


def test_the_same_inputs_give_the_same_bits(golden, golden_model):
    assert plan(golden, golden_model, 0).raw_samples.tobytes() == plan(golden, golden_model, 0).raw_samples.tobytes()


def test_every_module_is_in_evaluation_mode(golden_model):
    assert not [name for name, module in golden_model.named_modules() if module.training]


def test_inputs_of_different_batch_sizes_are_refused(golden, golden_model):
    image = golden("vision/images.npz")["pattern"]
    with pytest.raises(ValueError, match="2 images, 1 token rows and 1 noises"):
        golden_model.plan([image, image], torch.tensor([[1, 2]]), torch.zeros(1, 16, 7))


def test_padding_on_the_left_is_refused(golden, golden_model):
    image = golden("vision/images.npz")["pattern"]
    mask = torch.tensor([[False, True]])
    with pytest.raises(ValueError, match="padding on the right"):
        golden_model.plan(image, torch.tensor([[1, 2]]), torch.zeros(1, 16, 7), attention_mask=mask)
