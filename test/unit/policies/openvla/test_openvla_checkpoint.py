"""What a directory says, what contradicts itself, and what is refused: each with a sentence."""

import json
import pickle
import re
import shutil

import pytest
import torch
from openvla_data import HEADS, Case, write_directory

from sqap_vla_ros.policies.openvla.build import find_decoding, load_openvla
from sqap_vla_ros.policies.openvla.checkpoint import INDEX, SINGLE, open_openvla
from sqap_vla_ros.vlm.weights import CheckpointError

SHARD = "model-00002-of-00003.safetensors"
HEAD = "action_head--150000_checkpoint.pt"


@pytest.fixture
def directory(tmp_path):
    """A directory of its own: L1 head, state."""
    return write_directory(tmp_path / "run", "libero_l1")


def error(directory, decoding=None):
    with pytest.raises(CheckpointError) as caught:
        load_openvla(open_openvla(directory), decoding=decoding, architecture=HEADS)
    message = str(caught.value)
    assert str(directory) in message and "\n" not in message
    return message


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("libero_l1", None, "regression"),
        ("libero_l1", "regression", "regression"),
        ("aloha_film", None, "regression"),
        ("aloha_diffusion", None, "diffusion"),
        ("discrete", "parallel", "parallel"),
        ("openvla", "autoregressive", "autoregressive"),
    ],
)
def test_the_files_say_how_actions_come_out(directory_of, name, told, expected):
    assert find_decoding(open_openvla(directory_of(name)), told) == expected


def test_what_no_file_says_must_be_told(directory_of):
    assert "set openvla.decoding to parallel or autoregressive" in error(directory_of("discrete"))
    assert "not regression" in error(directory_of("openvla"), "regression")


def test_what_contradicts_the_files_is_refused(directory_of):
    assert "is a head for regression, but openvla.decoding = diffusion" in error(directory_of("libero_l1"), "diffusion")


def test_plain_openvla_has_no_components(directory):
    (directory / HEAD).unlink()
    assert "has no proprio_projector--150000_checkpoint.pt" in error(directory, "autoregressive")


def test_a_diffusion_head_needs_its_projector(directory_of, tmp_path):
    directory = shutil.copytree(directory_of("aloha_diffusion"), tmp_path / "run")
    (directory / "noisy_action_projector--50000_checkpoint.pt").unlink()
    assert "belong together, and one is missing" in error(directory)


def test_sizes_are_read_from_the_files(directory_of):
    for name, action_dim, state in (("libero_l1", 7, 8), ("aloha_film", 14, 14)):
        network = load_openvla(open_openvla(directory_of(name)), architecture=HEADS)
        assert (network.head.shape.action_dim, network.proprio.numbers) == (action_dim, state)


def test_names_may_have_the_prefix_of_distributed_training_or_not(directory, case_of):
    for file in directory.glob("*_checkpoint.pt"):
        tensors = torch.load(file, weights_only=True)
        wrapped = all(name.startswith("module.") for name in tensors)
        torch.save(
            {name.removeprefix("module.") if wrapped else f"module.{name}": t for name, t in tensors.items()}, file
        )
    again, known = Case("libero_0", directory), case_of("libero_0")
    visual = known.network.visual(known.inputs)
    found = again.network.predict(known.inputs, visual, 8, 7)
    assert (found == known.network.predict(known.inputs, visual, 8, 7)).all()


def test_one_file_of_weights_may_take_the_place_of_shards(directory, case_of):
    from safetensors.torch import load_file, save_file

    tensors = {}
    for shard in directory.glob("model-*.safetensors"):
        tensors |= load_file(shard)
        shard.unlink()
    (directory / INDEX).unlink()
    save_file(tensors, directory / SINGLE)
    network = load_openvla(open_openvla(directory), architecture=HEADS)
    known = case_of("libero_0")
    assert torch.equal(network.visual(known.inputs), known.network.visual(known.inputs))


def test_a_missing_shard_is_named(directory):
    (directory / SHARD).unlink()
    assert f"1 of 3 shards are missing: {SHARD}" in error(directory)


def test_a_truncated_shard_is_named(directory):
    whole = (directory / SHARD).read_bytes()
    (directory / SHARD).write_bytes(whole[: len(whole) // 2])
    assert SHARD in error(directory) and "not a whole safetensors file" in error(directory)


def test_a_shard_outside_the_directory_is_refused(directory):
    index = json.loads((directory / INDEX).read_text())
    index["weight_map"]["projector.fc1.bias"] = "../other.safetensors"
    (directory / INDEX).write_text(json.dumps(index))
    assert "is not a file of this directory" in error(directory)


def test_a_tensor_that_the_index_promises_must_be_there(directory):
    index = json.loads((directory / INDEX).read_text())
    index["weight_map"]["projector.fc9.bias"] = SHARD
    (directory / INDEX).write_text(json.dumps(index))
    assert "lacks 'projector.fc9.bias'" in error(directory)


def test_two_files_of_a_kind_are_refused(directory):
    shutil.copy(directory / HEAD, directory / "action_head--200000_checkpoint.pt")
    assert "2 files are a action_head" in error(directory)


class Payload:
    def __reduce__(self):
        return pickle.loads, (b"",)


@pytest.mark.parametrize("content", [b"", b"nothing", pickle.dumps({"a": Payload()})])
def test_a_damaged_or_executable_component_is_refused(directory, content):
    (directory / HEAD).write_bytes(content)
    assert re.search("refused, because it is damaged or holds more than tensors", error(directory))


def test_a_component_of_another_language_model_is_refused(directory):
    tensors = torch.load(directory / HEAD, weights_only=True)
    tensors["module.model.layer_norm1.weight"] = torch.ones(85)
    torch.save(tensors, directory / HEAD)
    assert "85 inputs, expected a multiple of the language model's 12" in error(directory)


def test_something_else_is_not_taken_for_a_head(directory):
    torch.save({"module.fc1.weight": torch.ones(2, 2)}, directory / HEAD)
    assert "neither an L1 head" in error(directory)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"vision_backbone_id": "siglip-vit-so224px"}, "vision_backbone_id = 'siglip-vit-so224px'"),
        ({"use_fused_vision_backbone": False}, "use_fused_vision_backbone = False"),
        ({"text_config": {"rope_theta": 500000.0}}, "text_config.rope_theta = 500000.0"),
        ({"architecture": {"eyes": 2}}, "'eyes' is not one of"),
    ],
)
def test_another_network_is_refused(directory, values, sentence):
    edit(directory / "config.json", **values)
    message = (
        error(directory) if "eyes" not in sentence else str(pytest.raises(CheckpointError, open_openvla, directory))
    )
    assert sentence in message


def test_the_language_model_s_epsilon_is_the_configuration_s(directory):
    assert open_openvla(directory).epsilon == 1e-6
    config = json.loads((directory / "config.json").read_text())
    edit(directory / "config.json", text_config={**config["text_config"], "rms_norm_eps": 1e-5})
    assert load_openvla(open_openvla(directory), architecture=HEADS).language.shape.epsilon == 1e-5


def test_statistics_of_fine_tuning_replace_those_of_pre_training(directory):
    edit(directory / "config.json", norm_stats={"bridge_orig": {}})
    assert "bridge_orig" not in open_openvla(directory).statistics
    (directory / "dataset_statistics.json").unlink()
    assert list(open_openvla(directory).statistics) == ["bridge_orig"]


def test_a_directory_without_statistics_is_refused(directory):
    (directory / "dataset_statistics.json").unlink()
    edit(directory / "config.json", norm_stats={})
    assert "copy the dataset_statistics.json" in error(directory)


def test_the_hash_covers_every_file_of_weights(directory):
    before = open_openvla(directory).sha256()
    assert open_openvla(directory).sha256() == before
    tensors = torch.load(directory / HEAD, weights_only=True)
    tensors["module.model.fc2.bias"] += 1
    torch.save(tensors, directory / HEAD)
    assert open_openvla(directory).sha256() != before


def test_missing_files_are_named(directory):
    (directory / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json: no such file" in error(directory)


def test_an_incomplete_adapter_is_refused(directory_of, tmp_path):
    directory = shutil.copytree(directory_of("aloha_film"), tmp_path / "run")
    (file,) = directory.glob("vision_backbone--*")
    tensors = torch.load(file, weights_only=True)
    del tensors["vision_backbone.featurizer.patch_embed.proj.lora_B.default.weight"]
    torch.save(tensors, file)
    assert "the adapter of 'dino_featurizer.patch_embed.proj.weight' is incomplete" in error(directory)
