"""What fails silently: each mistake moves the actions far beyond the tolerance of the golden runs.

The golden tests hold the right way. Here each mistake is made, and must show: a golden run that did not notice it would
hold nothing.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from openvla_data import arrays, close, load_network

from sqap_vla_ros.policies.openvla import adapted
from sqap_vla_ros.policies.openvla.statistics import denormalise
from sqap_vla_ros.vlm.layers import causal_attention
from sqap_vla_ros.vlm.preprocessing import COGACT_STATISTICS

TOLERANCE = 2e-5

pytestmark = pytest.mark.usefixtures("_no_gradients")


@pytest.fixture
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def libero(case_of):
    return case_of("libero_0")


@pytest.fixture
def network(libero):
    """A network of its own, which a test may spoil."""
    return load_network(libero.checkpoint)


def _causal(network, parts):
    language = network.language
    hidden = language.norm(language.run_layers(_joined(parts), attention=causal_attention))
    return hidden[:, -2 - parts["slots"].shape[1] : -2]


def _read_at_the_slots(network, parts):
    language = network.language
    return language.norm(language.run_layers(_joined(parts)))[:, -1 - parts["slots"].shape[1] : -1]


def _read(network, parts):
    return network.read(_joined(parts), parts["slots"].shape[1])


def _slots_as_bos(network, parts):
    bos = network.language.embed_tokens(torch.tensor([[1]]))
    return _read(network, {**parts, "slots": bos.expand(-1, parts["slots"].shape[1], -1)})


def _without_the_blank(network, parts):
    return _read(network, {**parts, "prompt": parts["prompt"][:, :-1]})


def _state_first(network, parts):
    return _read(network, {"bos": parts["bos"], "state": parts["state"], **parts})


def _views_swapped(network, parts):
    return _read(network, {**parts, "visual": parts["visual"].roll(256, dims=1)})


def _without_stop(network, parts):
    embeddings = _joined({name: part for name, part in parts.items() if name != "stop"})
    language, slots = network.language, parts["slots"].shape[1]
    return language.norm(language.run_layers(embeddings))[:, -1 - slots : -1]


MISTAKES: dict[str, tuple[Callable, float]] = {
    "causal mask": (_causal, 0.41),
    "slots as embeddings of BOS": (_slots_as_bos, 0.43),
    "29871 missing": (_without_the_blank, 0.27),
    "read at the slots": (_read_at_the_slots, 0.06),
    "views swapped": (_views_swapped, 0.07),
    "state in front of the patches": (_state_first, 0.03),
    "no stop token": (_without_stop, 0.016),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_sequence_shows(libero, mistake):
    make, expected = MISTAKES[mistake]
    parts = _parts(libero.network, libero)
    close(libero.network.head(_read(libero.network, parts))[0], libero.array("normalized_actions"), TOLERANCE)
    found = _change(libero, libero.network.head(make(libero.network, parts))[0])
    assert found > 0.5 * expected


def test_the_causal_network_is_the_recorded_one(libero):
    """With a causal mask the network gives exactly what an unmodified transformers gives: nothing else differs."""
    actions = libero.network.head(_causal(libero.network, _parts(libero.network, libero)))[0]
    close(actions, arrays("cases/libero.npz")["causal_0_normalized_actions"], TOLERANCE)


def test_cogact_s_epsilon_shows(libero, network):
    network.language.norm.eps = 1e-5
    for layer in network.language.layers:
        layer.input_layernorm.variance_epsilon = layer.post_attention_layernorm.variance_epsilon = 1e-5
    assert _change(libero, _predict(network, libero)) > 0.01


def test_unrounded_image_statistics_show(libero, network):
    network.image_statistics = COGACT_STATISTICS
    assert _change(libero, _predict(network, libero)) > 1e-3


def test_siglip_first_shows(libero, network):
    first, width = network.projector.projector[0], network.vision.dino.shape.width
    first.weight = torch.nn.Parameter(torch.cat((first.weight[:, width:], first.weight[:, :width]), 1))
    assert _change(libero, _predict(network, libero)) > 0.3


def test_tanh_gelu_shows(libero, network):
    found = [name for name, module in network.named_modules() if "GELU" in type(module).__name__]
    assert len(found) > 4
    for name in found:
        owner, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(owner), leaf, torch.nn.GELU(approximate="tanh"))
    assert _change(libero, _predict(network, libero)) > TOLERANCE


def test_extremes_for_quantiles_show(libero):
    normalised = libero.array("normalized_actions")
    close(denormalise(normalised, libero.statistics.bounds("action", "bounds_q99")), libero.array("actions"), 1e-12)
    wrong = denormalise(normalised, libero.statistics.bounds("action", "bounds"))
    assert np.abs(wrong - libero.array("actions")).max() > 0.07


def test_the_towers_epsilon_shows_in_their_features(libero, network):
    from sqap_vla_ros.vlm.preprocessing import normalise

    for tower in (network.vision.dino, network.vision.siglip):
        for module in tower.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-5
    pixels = normalise(torch.from_numpy(libero.inputs.images), libero.checkpoint.image_statistics)
    features = network.vision(*pixels).flatten(0, 1)[None]
    assert np.abs(features.numpy() - libero.array("patch_features")).max() > 3e-4


def test_the_head_s_epsilon_shows_on_small_inputs(network):
    stored = arrays("numbers/heads.npz")
    for module in network.head.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    found = network.head(torch.from_numpy(stored["l1_libero_in"])).numpy()
    assert np.abs(found[2] - stored["l1_libero_out"][2]).max() >= 0.1


def test_a_film_mean_without_the_stop_token_shows(case_of):
    case = case_of("film_0")
    spoiled = load_network(case.checkpoint)
    spoiled._with_stop = lambda ids: ids
    visual = spoiled.visual(case.inputs)
    del spoiled._with_stop
    assert _change(case, spoiled.predict(case.inputs, visual, 25, 14)) > 0.01


def test_an_adapter_of_factor_one_shows(case_of, monkeypatch):
    monkeypatch.setattr(adapted, "_LARGEST_ALPHA", 10**6)
    case = case_of("film_0")
    assert _change(case, _predict(load_network(case.checkpoint), case)) > 0.06


def test_a_patch_embedding_without_its_adapter_shows(case_of, monkeypatch):
    case, take = case_of("film_0"), adapted.AdaptedPart.take

    def unadapted(self, source, dtype, device):
        if "patch_embed" in source.name:
            return super(adapted.AdaptedPart, self).take(source, dtype, device)
        return take(self, source, dtype, device)

    monkeypatch.setattr(adapted.AdaptedPart, "take", unadapted)
    assert _change(case, _predict(load_network(case.checkpoint), case)) > 0.3


def test_the_towers_of_a_film_run_are_not_those_of_the_shards(case_of):
    case = case_of("film_0")
    kept = {kind: path for kind, path in case.checkpoint.components.items() if kind != "vision_backbone"}
    plain = load_network(replace(case.checkpoint, components=kept))
    assert _change(case, _predict(plain, case)) > 0.1


def _parts(network, case):
    """The sequence's parts by name, in their order."""
    text = network.language.embed_tokens(case.inputs.input_ids)
    stop = network.language.embed_tokens(torch.tensor([[2]]))
    (state,) = network.state_token(case.inputs)
    visual, slots = network.visual(case.inputs), network.empty_slots(case.slots)
    return {
        "bos": text[:, :1],
        "visual": visual,
        "state": state,
        "prompt": text[:, 1:],
        "slots": slots,
        "stop": stop,
    }


def _joined(parts):
    return torch.cat(list(parts.values()), dim=1)


def _predict(network, case):
    visual = network.visual(case.inputs)
    return network.predict(case.inputs, visual, case.about["chunk"], case.about["action_dim"])


def _change(case, normalised):
    return np.abs(np.asarray(normalised) - case.array("normalized_actions")).max()
