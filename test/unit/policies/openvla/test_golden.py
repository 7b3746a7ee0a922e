"""Whole runs against the reference, stage by stage."""

import numpy as np
import pytest
import torch
from openvla_data import arrays, close, load_network, picture, turned

from sqap_vla_ros.policies.openvla.denoising import Denoising, timesteps
from sqap_vla_ros.policies.openvla.model import Inputs
from sqap_vla_ros.policies.openvla.statistics import denormalise
from sqap_vla_ros.vlm.preprocessing import normalise, resize

REGRESSION = ["libero_0", "libero_1", "single_0", "film_0"]
PARALLEL = ["discrete_0", "discrete_1"]
DIFFUSION = ["diffusion10_0", "diffusion50_0"]

pytestmark = pytest.mark.usefixtures("_no_gradients")


@pytest.fixture
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", [*REGRESSION, *PARALLEL, "diffusion10_0"])
def test_pixel_values_are_the_reference_s(case_of, name):
    case = case_of(name)
    views = torch.from_numpy(case.inputs.images)
    pixels = torch.cat(normalise(views, case.checkpoint.image_statistics), dim=1).flatten(0, 1)[None]
    close(pixels[:, :, 3::16, 5::16], case.array("pixel_values_strided"), 1e-6)


@pytest.mark.parametrize("name", REGRESSION)
def test_views_become_the_reference_s_embeddings(case_of, name):
    case = case_of(name)
    close(case.network.visual(case.inputs), case.array("projected_patches"), 5e-6)


@pytest.mark.parametrize(("name", "quantity", "views"), [("libero_0", "", 2), ("film_0", "_image0", 1)])
def test_patch_features_are_the_reference_s(case_of, name, quantity, views):
    case = case_of(name)
    pixels = normalise(torch.from_numpy(case.inputs.images[:views]), case.checkpoint.image_statistics)
    text = None
    if name == "film_0":
        ids = torch.cat((case.inputs.input_ids, torch.tensor([[2]])), 1)
        text = case.network.language.embed_tokens(ids).mean(1)
    features = case.network.vision(*pixels, text).flatten(0, 1)[None]
    close(features, case.array(f"patch_features{quantity}"), 6e-5)


@pytest.mark.parametrize("name", ["libero_0", "libero_1", "film_0", "diffusion50_0"])
def test_the_state_becomes_the_reference_s_token(case_of, name):
    case = case_of(name)
    close(case.inputs.state, case.array("proprio_input")[0], 1e-6)
    (token,) = case.network.state_token(case.inputs)
    close(token[0], case.array("proprio_token"), 5e-6)


@pytest.mark.parametrize("name", [*REGRESSION, *PARALLEL])
def test_hidden_states_are_the_reference_s(case_of, name):
    case, network = case_of(name), case_of(name).network
    embeddings = _embeddings(case)
    assert embeddings.shape[1] == case.about["sequence"]
    if case.recorded("inputs_embeds"):
        close(embeddings, case.array("inputs_embeds"), 5e-6)
    close(network.language.norm(network.language.run_layers(embeddings)), case.array("last_hidden"), 2e-4)
    close(network.read(embeddings, case.slots), case.array("action_hidden"), 2e-4)


@pytest.mark.parametrize("name", REGRESSION)
def test_an_l1_head_gives_the_reference_s_actions(case_of, name):
    case = case_of(name)
    normalised = _predict(case)
    close(normalised, case.array("normalized_actions"), 2e-5)
    bounds = case.statistics.bounds("action", case.about["normalization"])
    close(denormalise(normalised, bounds), case.array("actions"), 2e-5)


@pytest.mark.parametrize("name", PARALLEL)
def test_parallel_tokens_are_the_reference_s(case_of, name):
    case, network = case_of(name), case_of(name).network
    hidden = network.read(_embeddings(case), case.slots)
    ids, normalised = network.decode(hidden)
    np.testing.assert_array_equal(ids, case.array("token_ids"))
    shape = case.about["chunk"], case.about["action_dim"]
    close(normalised.reshape(shape), case.array("normalized_actions"), 1e-12)
    logits = network.tokens(hidden[0])
    best = logits.topk(2).values
    close(best[:, 0] - best[:, 1], case.array("margin"), 2e-4)
    if case.recorded("logits_from_31744"):
        close(logits[:, 31744:], case.array("logits_from_31744"), 2e-4)
    bounds = case.statistics.bounds("action", case.about["normalization"])
    close(denormalise(_predict(case), bounds), case.array("actions"), 1e-12)


@pytest.mark.parametrize("name", DIFFUSION)
def test_a_diffusion_head_gives_the_reference_s_actions(case_of, name):
    case, network = case_of(name), case_of(name).network
    steps = case.about["steps"]
    assert timesteps(steps) == case.array("timesteps").tolist()
    visual, extra = network.visual(case.inputs), network.state_token(case.inputs)
    hidden = []

    def predict(x, step):
        tokens = [*extra, network.step_token(step)]
        sequence = network.sequence(case.inputs.input_ids, visual, tokens, network.noisy_slots(x))
        if step == timesteps(steps)[0] and case.recorded("last_hidden_first_step"):
            close(tokens[1][0], case.array("time_token_first_step"), 1e-6)
            states = network.language.norm(network.language.run_layers(sequence))
            close(states[:, case.about["first_readout"] - 2 :], case.array("last_hidden_first_step"), 2e-4)
        hidden.append(network.read(sequence, case.slots))
        return network.head(hidden[-1])

    after = list(Denoising(steps).trajectory(predict, torch.from_numpy(case.array("noise"))))
    close(torch.stack([x for _, x in after]), case.array("x_after_step"), 4e-4)
    close(hidden[-1], case.array("action_hidden"), 4e-4)
    close(after[-1][1][0], case.array("normalized_actions"), 4e-4)
    if case.recorded("predicted_noise"):
        close(torch.stack([noise for noise, _ in after]), case.array("predicted_noise"), 4e-4)
    bounds = case.statistics.bounds("action", case.about["normalization"])
    close(denormalise(after[-1][1][0].numpy(), bounds), case.array("actions"), 4e-4)


def test_a_denoised_chunk_is_predicted_in_one_call(case_of):
    case = case_of("diffusion10_0")
    noise = torch.from_numpy(case.array("noise"))
    close(_predict(case, noise=noise, denoising=Denoising(10)), case.array("normalized_actions"), 4e-4)


@pytest.mark.parametrize("name", ["openvla_0", "openvla_1"])
def test_openvla_generates_the_reference_s_tokens(case_of, name):
    case, network = case_of(name), case_of(name).network
    image = resize(turned(picture("agentview"))) if name == "openvla_0" else picture("pattern_cropped")
    inputs = Inputs(image[None], torch.from_numpy(case.array("input_ids")))
    pixels = torch.cat(normalise(torch.from_numpy(inputs.images), case.checkpoint.image_statistics), dim=1)
    close(pixels[:, :, 3::16, 5::16], case.array("pixel_values_strided"), 1e-6)
    visual = network.visual(inputs)
    close(visual, case.array("projected_patches"), 5e-6)
    states = network.language.norm(network.language.run_layers(network.language.embed(inputs.input_ids, visual)))
    close(states, case.array("prefill_last_hidden"), 2e-4)
    generated = network.generate(inputs, visual, 7)
    np.testing.assert_array_equal(generated.ids, case.array("token_ids"))
    close(generated.hidden[None], case.array("step_last_hidden"), 2e-4)
    close(generated.logits[:, 31744:], case.array("logits_from_31744"), 2e-4)
    best = generated.logits.topk(2).values
    close(best[:, 0] - best[:, 1], case.array("margin"), 2e-4)
    normalised = network.predict(inputs, visual, 1, 7)[0]
    close(normalised, case.array("normalized_actions"), 1e-12)
    bounds = case.statistics.bounds("action", "bounds_q99")
    close(denormalise(normalised, bounds, guard=0.0), case.array("actions"), 1e-12)


def test_hidden_text_is_seen_by_nobody_and_keeps_its_positions(case_of):
    case, stored = case_of("libero_0"), arrays("cases/libero.npz")
    visible = torch.from_numpy(stored["masked_0_attention_mask"]).bool()
    network = case.network
    hidden = network.read(_embeddings(case), case.slots, visible=visible)
    first = case.about["first_readout"]
    close(hidden, stored["masked_0_last_hidden"][:, first : first + case.slots], 2e-4)
    close(network.head(hidden)[0], stored["masked_0_normalized_actions"], 2e-5)


def test_a_padded_batch_equals_its_samples_alone(case_of):
    first, second = case_of("libero_0"), case_of("libero_1")
    alone = [_embeddings(case)[0] for case in (first, second)]
    padded = torch.nn.utils.rnn.pad_sequence(alone, batch_first=True, padding_value=0.37)
    visible = torch.arange(padded.shape[1]) < torch.tensor([[len(row)] for row in alone])
    hidden = first.network.read(padded, first.slots, visible=visible)
    close(hidden, arrays("cases/libero.npz")["batch_0_action_hidden"], 2e-4)


def test_a_position_sees_those_behind_it(case_of):
    case, stored = case_of("libero_0"), arrays("cases/libero.npz")
    embeddings = _embeddings(case)
    embeddings[:, -1] = case.network.language.embed_tokens(torch.tensor([5839]))
    language = case.network.language
    close(language.norm(language.run_layers(embeddings)), stored["noncausal_0_last_hidden"], 2e-4)
    close(
        case.network.head(case.network.read(embeddings, case.slots))[0], stored["noncausal_0_normalized_actions"], 2e-5
    )


def test_a_network_is_the_same_when_it_is_loaded_again(case_of):
    case = case_of("libero_0")
    again = load_network(case.checkpoint).predict(case.inputs, case.network.visual(case.inputs), 8, 7)
    np.testing.assert_array_equal(again, _predict(case))


def _embeddings(case):
    network = case.network
    return network.sequence(
        case.inputs.input_ids,
        network.visual(case.inputs),
        network.state_token(case.inputs),
        network.empty_slots(case.slots),
    )


def _predict(case, **options):
    visual = case.network.visual(case.inputs)
    return case.network.predict(case.inputs, visual, case.about["chunk"], case.about["action_dim"], **options)
