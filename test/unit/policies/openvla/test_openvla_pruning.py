"""Tokens are dropped in each view on its own, by the attention of the positions that become actions."""

import numpy as np
import pytest
import torch
from openvla_data import close, picture

from sqap_vla_ros.config.policy import read_policy
from sqap_vla_ros.config.pruning import FastVConfig, RandomConfig, SqapConfig
from sqap_vla_ros.core.observation import Observation, View
from sqap_vla_ros.core.policy import PolicyMetadata, PolicyNeeds
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.perception.patches import patch_coordinates
from sqap_vla_ros.policies.openvla.images import model_image_affine
from sqap_vla_ros.policies.openvla.policy import OpenVlaPolicy, model_image
from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.layers import full_attention, run_layer
from sqap_vla_ros.vlm.pruning.views import ViewPruningHook

LAYER, PATCHES = 2, 256

pytestmark = pytest.mark.usefixtures("_no_gradients")


@pytest.fixture
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def case(case_of):
    return case_of("libero_0")


class Recorded:
    def __init__(self, ids):
        self.ids = ids

    def encode_text(self, text):
        return self.ids[0].tolist()


def policy_of(case, pruning):
    config = read_policy("openvla-oft-libero").openvla
    bounds = [case.statistics.bounds(quantity, config.normalisation) for quantity in ("action", "proprio")]
    metadata = PolicyMetadata(
        "test", "", "", "", "float", 32, 32, 512, 512, 1, 1, "cpu", 0.05, 8, needs=PolicyNeeds(2, "tool", 8)
    )
    return OpenVlaPolicy(config, pruning, case.network, Recorded(case.inputs.input_ids), *bounds, metadata)


def observation(case, tools=(None, None)):
    first, second = (np.ascontiguousarray(picture(view)[::-1]) for view in case.about["images"])
    further = {"wrist": View(9, second, tools[1])}
    return Observation(9, first, "x", np.eye(4), tools[0], further=further, state=case.array("state"))


def sequence(case):
    network = case.network
    extra, slots = network.state_token(case.inputs), network.empty_slots(case.slots)
    return network.sequence(case.inputs.input_ids, network.visual(case.inputs), extra, slots)


def hook(case, select):
    return ViewPruningHook(
        select, LAYER, 2, PATCHES, case.network.language.shape.head_width, case.network.task_rows(case.slots), False
    )


def random_choice(view, keep=154):
    return np.sort(np.random.default_rng(view).choice(PATCHES, keep, replace=False))


def test_dropped_tokens_are_as_if_nobody_saw_them_from_that_layer_on(case):
    embeddings, language = sequence(case), case.network.language
    visible = torch.zeros(1, embeddings.shape[1], dtype=torch.bool)
    visible[0, 1 + 2 * PATCHES :] = visible[0, 0] = True
    for view in range(2):
        visible[0, 1 + view * PATCHES + torch.from_numpy(random_choice(view))] = True
    rotations = rotary_tables(torch.arange(embeddings.shape[1])[None], language.shape.head_width, embeddings.dtype)
    hidden = embeddings
    for index, layer in enumerate(language.layers):
        seen = visible if index >= LAYER else None

        def attention(queries, keys, values, only, seen=seen):
            return full_attention(queries, keys, values, only, visible=seen)

        hidden, _, _ = run_layer(layer, hidden, rotations, language.shape.head_width, None, attention)
    expected = language.norm(hidden)[:, -2 - case.slots : -2]
    found = case.network.read(embeddings, case.slots, before_layer=hook(case, lambda view, _: random_choice(view)))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    unpruned = case.network.read(embeddings, case.slots)
    assert (found - unpruned).abs().max() > 0.01


def test_scores_are_the_mean_attention_of_the_positions_that_become_actions(case):
    embeddings, language = sequence(case), case.network.language
    seen = {}

    def select(view, inputs):
        seen[view] = inputs.scores
        return np.arange(PATCHES)

    case.network.read(embeddings, case.slots, before_layer=hook(case, select))
    probabilities = _attention_of_layer(language, embeddings, LAYER - 1)
    rows = probabilities[:, -2 - case.slots : -2].mean((0, 1))
    for view in range(2):
        first = 1 + view * PATCHES
        np.testing.assert_allclose(seen[view], rows[first : first + PATCHES], rtol=1e-4, atol=1e-7)


def _attention_of_layer(language, hidden, index):
    """Attention probabilities (heads, positions, positions) of a layer, written out."""
    from sqap_vla_ros.vlm.layers import project_heads

    rotations = rotary_tables(torch.arange(hidden.shape[1])[None], language.shape.head_width, hidden.dtype)
    for layer in language.layers[:index]:
        hidden, _, _ = run_layer(layer, hidden, rotations, language.shape.head_width, None, full_attention)
    queries, keys, _ = project_heads(language.layers[index], hidden, rotations, language.shape.head_width)
    return ((queries[0] @ keys[0].transpose(1, 2)) * language.shape.head_width**-0.5).softmax(-1)


def test_keeping_all_changes_nothing(case):
    embeddings = sequence(case)
    kept = case.network.read(embeddings, case.slots, before_layer=hook(case, lambda view, _: np.arange(PATCHES)))
    np.testing.assert_array_equal(kept, case.network.read(embeddings, case.slots))


def test_openvla_generates_after_pruning_with_positions_that_follow_on(case_of):
    case = case_of("openvla_1")
    from sqap_vla_ros.policies.openvla.model import Inputs

    network = case.network
    inputs = Inputs(picture("pattern_cropped")[None], torch.from_numpy(case.array("input_ids")))
    visual = network.visual(inputs)
    shape = network.language.shape
    options = LAYER, 1, PATCHES, shape.head_width, network.task_rows(7), True
    all_kept = network.generate(inputs, visual, 7, ViewPruningHook(lambda view, _: np.arange(PATCHES), *options))
    np.testing.assert_array_equal(all_kept.ids, case.array("token_ids"))
    pruned = network.generate(inputs, visual, 7, ViewPruningHook(lambda view, _: random_choice(view), *options))
    assert pruned.hidden.isfinite().all() and (pruned.hidden - all_kept.hidden).abs().max() > 1e-3


@pytest.mark.parametrize("pruning", [SqapConfig(), FastVConfig(), RandomConfig()])
def test_each_view_keeps_its_share(case, pruning):
    policy, seen = policy_of(case, pruning), observation(case)
    chunk = policy.plan(seen)
    selections = chunk.selection, chunk.further_selections["wrist"]
    assert [len(selection.indices) for selection in selections] == [154, 154]
    assert not np.array_equal(selections[0].indices, selections[1].indices)
    np.testing.assert_array_equal(policy.plan(seen).actions, chunk.actions)


def test_each_view_has_the_ring_of_its_own_tool(case):
    tools = np.array([60.0, 80.0]), np.array([200.0, 190.0])
    chunk = policy_of(case, SqapConfig()).plan(observation(case, tools))
    for tool, selection in zip(tools, (chunk.selection, chunk.further_selections["wrist"]), strict=True):
        affine = model_image_affine(256, 256, mirrored=True, cropped=True)
        column, row = patch_coordinates(tool, affine)
        assert selection.reasons[row * 16 + column] & Reason.RING
        assert ((selection.reasons & Reason.RING) > 0).sum() == 25
    alone = policy_of(case, SqapConfig()).plan(observation(case, (tools[0], None)))
    assert not (alone.further_selections["wrist"].reasons & Reason.RING).any()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("cropped", [False, True])
def test_a_point_of_the_camera_image_is_where_the_model_sees_it(mirrored, cropped):
    trained = read_policy("openvla-oft-libero").openvla
    trained = trained.model_copy(update={"mirrored": mirrored, "center_crop": cropped})
    image = np.zeros((480, 640, 3), np.uint8)
    image[300:308, 200:208] = 255  # its middle is the point (204, 304)
    found = model_image(trained, image).astype(float).sum(-1)
    rows, columns = np.indices(found.shape) + 0.5
    weight = found * (found > 100)
    seen = [(weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()]
    affine = model_image_affine(640, 480, mirrored=mirrored, cropped=cropped)
    close(affine @ (204.0, 304.0, 1.0), np.array(seen), 0.15)
