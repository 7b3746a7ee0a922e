"""Finding and loading checkpoints, and one clear error for each way they can be broken."""

import json
import pickle
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.weights import CheckpointError, attention_heads

WEIGHTS = Path("checkpoints") / "random-cogact.pt"


@pytest.fixture
def run(tmp_path, random_run):
    """A copy of the random run directory that a test may break."""
    return Path(shutil.copytree(random_run, tmp_path / "run"))


def change(run, alter):
    """Rewrite a run directory's weights after `alter(parts)`."""
    content = torch.load(run / WEIGHTS, weights_only=True)
    alter(content["model"])
    torch.save(content, run / WEIGHTS)


def load_error(run):
    with pytest.raises(CheckpointError) as caught:
        load_cogact(open_checkpoint(run))
    return str(caught.value)


def same_weights(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_a_run_directory_and_its_weights_file_are_the_same_checkpoint(random_run):
    directory, file = open_checkpoint(random_run), open_checkpoint(str(random_run / WEIGHTS))
    assert (directory.directory, directory.weights) == (file.directory, file.weights)


def test_safetensors_load_like_the_pt_file(run):
    expected = load_cogact(open_checkpoint(run))
    parts = torch.load(run / WEIGHTS, weights_only=True)["model"]
    del parts["llm_backbone"]["llm.lm_head.weight"]  # shares its memory, which safetensors does not allow
    flat = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    (run / WEIGHTS).unlink()
    save_file(flat, run / "checkpoints" / "model.safetensors")
    assert same_weights(load_cogact(open_checkpoint(run)), expected)


def test_a_hub_id_is_downloaded(random_run, monkeypatch):
    asked = []

    def download(hub_id, allow_patterns):
        asked.append(hub_id)
        return str(random_run)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert open_checkpoint("CogACT/CogACT-Base").weights == random_run / WEIGHTS
    assert asked == ["CogACT/CogACT-Base"]


def test_a_hub_id_that_is_not_to_be_had_is_named(monkeypatch):
    def refuse(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match="CogACT/CogACT-Base: neither a run directory.*no connection.*local path"):
        open_checkpoint("CogACT/CogACT-Base")


def test_a_path_that_is_not_there_is_named():
    with pytest.raises(CheckpointError, match="/nowhere/at/all: no such run directory"):
        open_checkpoint("/nowhere/at/all")


def test_a_weights_file_outside_a_checkpoints_directory_is_refused(run):
    moved = shutil.move(run / WEIGHTS, run / "model.pt")
    with pytest.raises(CheckpointError, match="in a directory named 'checkpoints'"):
        open_checkpoint(moved)


def test_two_weights_files_are_one_too_many_for_a_run_directory(run):
    shutil.copy(run / WEIGHTS, run / "checkpoints" / "other.pt")
    with pytest.raises(CheckpointError, match=r"found other.pt, random-cogact.pt; name the file"):
        open_checkpoint(run)
    assert open_checkpoint(run / WEIGHTS).weights == run / WEIGHTS


@pytest.mark.parametrize("name", ["config.json", "dataset_statistics.json"])
def test_a_missing_side_file_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such file.*belongs to the checkpoint"):
        open_checkpoint(run)


def test_another_base_model_is_refused(run):
    (run / "config.json").write_text(json.dumps({"vla": {"base_vlm": "prism-clip-336px+7b"}}))
    with pytest.raises(CheckpointError, match="prism-clip-336px.*expected 'prism-dinosiglip-224px"):
        open_checkpoint(run)


@pytest.mark.parametrize("entry", [{"dino_head": 4}, {"dino_heads": "4"}, {"dino_heads": 0}])
def test_a_wrong_architecture_entry_is_named(run, entry):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "architecture": entry}))
    with pytest.raises(CheckpointError, match="architecture: '?dino_head"):
        open_checkpoint(run)


def test_unpublished_widths_need_their_numbers_of_heads(golden_checkpoint):
    with pytest.raises(CheckpointError, match='dino_heads: .* width 64 .*"architecture": {"dino_heads": …}'):
        load_cogact(golden_checkpoint)


@pytest.mark.parametrize(
    ("key", "width", "expected"),
    [("dino_heads", 1024, 16), ("siglip_heads", 1152, 16), ("llm_heads", 4096, 32), ("dit_heads", 768, 12)],
)
def test_published_widths_have_the_published_heads(key, width, expected):
    assert attention_heads(key, width, {}) == expected


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(run, share):
    content = (run / WEIGHTS).read_bytes()
    (run / WEIGHTS).write_bytes(content[: int(share * len(content))])
    assert "refused, because it is damaged or holds more than tensors" in load_error(run)


def test_a_truncated_safetensors_file_is_refused(run):
    save_file({"projector.projector.0.weight": torch.zeros(400, 400)}, run / "checkpoints" / "model.safetensors")
    (run / WEIGHTS).unlink()
    path = run / "checkpoints" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "not a whole safetensors file" in load_error(run)


class Payload:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_payload_is_refused_and_not_run(run, tmp_path, writer):
    trace = tmp_path / "trace"
    content = {"model": {"action_model": Payload(trace)}}
    if writer == "torch":
        torch.save(content, run / WEIGHTS)
    else:
        (run / WEIGHTS).write_bytes(pickle.dumps(content))
    assert "refused" in load_error(run)
    assert not trace.exists()


@pytest.mark.parametrize("content", [{"weights": {}}, [1, 2], {"model": 3}])
def test_what_is_not_a_cogact_checkpoint_is_refused(run, content):
    torch.save(content, run / WEIGHTS)
    assert "not a checkpoint of a policy" in load_error(run)


@pytest.mark.parametrize("part", ["vision_backbone", "projector", "llm_backbone", "action_model"])
def test_a_missing_part_is_named(run, part):
    change(run, lambda parts: parts.pop(part))
    assert f"the part '{part}' is missing" in load_error(run)


TENSORS = [
    ("vision_backbone", "dino_featurizer.reg_token"),
    ("vision_backbone", "dino_featurizer.blocks.0.attn.qkv.weight"),
    ("vision_backbone", "siglip_featurizer.blocks.1.mlp.fc1.weight"),
    ("projector", "projector.2.weight"),
    ("llm_backbone", "llm.model.layers.1.self_attn.k_proj.weight"),
    ("llm_backbone", "llm.model.norm.weight"),
    ("action_model", "net.positional_embedding"),
    ("action_model", "net.blocks.1.mlp.fc2.bias"),
]


@pytest.mark.parametrize(("part", "name"), TENSORS)
def test_a_missing_tensor_is_named(run, part, name):
    change(run, lambda parts: parts[part].pop(name))
    error = load_error(run)
    assert f"'{name}': expected" in error and "missing" in error


@pytest.mark.parametrize(("part", "name"), TENSORS)
def test_an_unexpected_tensor_is_named(run, part, name):
    change(run, lambda parts: parts[part].update({f"{name}_more": torch.zeros(3)}))
    error = load_error(run)
    assert f"'{name}_more': unexpected, found (3,)" in error


@pytest.mark.parametrize(
    ("part", "name", "expected"),
    [
        ("vision_backbone", "dino_featurizer.blocks.0.attn.qkv.weight", (96, 32)),
        ("vision_backbone", "siglip_featurizer.pos_embed", (1, 256, 32)),
        ("llm_backbone", "llm.model.layers.1.self_attn.k_proj.weight", (64, 64)),
        ("llm_backbone", "llm.model.layers.2.input_layernorm.weight", (64,)),
        ("action_model", "net.t_embedder.mlp.0.weight", (48, 256)),
    ],
)
def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(run, part, name, expected):
    def alter(parts):
        tensor = parts[part][name]
        parts[part][name] = torch.cat((tensor, tensor[..., :1]), dim=-1)

    change(run, alter)
    found = (*expected[:-1], expected[-1] + 1)
    assert f"'{name}': expected {expected}, found {found}" in load_error(run)


def test_parts_that_do_not_join_are_refused(run):
    other = write_random_checkpoint(run.parent / "other", "small")
    projector = torch.load(other / WEIGHTS, weights_only=True)["model"]["projector"]
    change(run, lambda parts: parts.update(projector=projector))
    assert "'projector.0.weight' takes 128 channels, expected 64" in load_error(run)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named(run, value):
    def alter(parts):
        parts["llm_backbone"]["llm.model.layers.1.mlp.up_proj.weight"][2, 3] = value

    change(run, alter)
    assert "'llm.model.layers.1.mlp.up_proj.weight' has NaN or infinite values" in load_error(run)


def test_weights_that_half_precision_cannot_hold_are_named(run):
    def alter(parts):
        parts["projector"]["projector.2.bias"][0] = 1e6

    change(run, alter)
    with pytest.raises(CheckpointError, match="'projector.2.bias' does not fit torch.float16"):
        load_cogact(open_checkpoint(run), dtype=torch.float16)


@pytest.mark.parametrize("value", [torch.zeros(3, dtype=torch.int64), 3.0, "text"])
def test_an_entry_that_is_no_weight_is_named(run, value):
    change(run, lambda parts: parts["projector"].update({"projector.0.weight": value}))
    assert "projector: 'projector.0.weight' is" in load_error(run)


def test_what_does_not_influence_actions_may_be_absent_and_is_not_kept(run):
    whole = load_cogact(open_checkpoint(run))

    def alter(parts):
        del parts["llm_backbone"]["llm.lm_head.weight"]
        for part, word in (("vision_backbone", "attn_pool"), ("action_model", "history_embedder")):
            for name in [name for name in parts[part] if word in name]:
                del parts[part][name]

    change(run, alter)
    assert same_weights(load_cogact(open_checkpoint(run)), whole)


def test_the_model_does_not_depend_on_the_file_any_more(run):
    model = load_cogact(open_checkpoint(run))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with (run / WEIGHTS).open("r+b") as file:
        file.write(bytes((run / WEIGHTS).stat().st_size))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_hash_follows_the_file(run):
    checkpoint = open_checkpoint(run)
    first = checkpoint.sha256()
    assert first == checkpoint.sha256() == open_checkpoint(run).sha256()
    with (run / WEIGHTS).open("ab") as file:
        file.write(b"more")
    assert checkpoint.sha256() != first


def test_the_golden_weights_have_their_hash(golden_checkpoint):
    assert golden_checkpoint.sha256() == "967325523cfdb0ed7576e3729b36659144f772ff18af6e1ccb7634ea3d35fbeb"
