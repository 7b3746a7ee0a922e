"""Directories and files of other projects are named for what they are, before any weight is read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sqap_vla_ros.testing.random_checkpoint import write_run_files
from sqap_vla_ros.vlm.checkpoint import find_checkpoint, open_checkpoint
from sqap_vla_ros.vlm.checkpoint_kind import Kind, recognise
from sqap_vla_ros.vlm.weights import CheckpointError

OPENVLA = {"model_type": "openvla", "architectures": ["OpenVLAForActionPrediction"]}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
COMPONENTS = ("action_head--50000_checkpoint.pt", "proprio_projector--50000_checkpoint.pt")
LAYOUTS: dict[str, tuple[Kind, str, dict[str, Any]]] = {
    "openvla": (Kind.OPENVLA, "a checkpoint of OpenVLA;", {"config.json": OPENVLA, **dict.fromkeys(SHARDS, "")}),
    "oft": (
        Kind.OPENVLA_OFT,
        "a checkpoint of OpenVLA-OFT;",
        {"config.json": OPENVLA, **dict.fromkeys((*SHARDS, *COMPONENTS, "lora_adapter/adapter_config.json"), "")},
    ),
    "oft that was not merged": (
        Kind.OPENVLA_OFT,
        "without its language model; merge",
        dict.fromkeys((*COMPONENTS, "lora_adapter/adapter_model.safetensors"), ""),
    ),
    "lora": (
        Kind.LORA,
        "a LoRA adapter for openvla/openvla-7b, .* merge it into its base model",
        {
            "adapter_config.json": {"base_model_name_or_path": "openvla/openvla-7b", "r": 32},
            "adapter_model.safetensors": "",
        },
    ),
    "prismatic": (
        Kind.PRISMATIC,
        "a base model of Prismatic .prism-dinosiglip-224px.7b., which .* plans no actions",
        {
            "config.json": {"model": {"model_id": "prism-dinosiglip-224px+7b"}, "stage": "finetune"},
            "checkpoints/latest-checkpoint.pt": "",
        },
    ),
    "openpi": (
        Kind.OPENPI,
        "openpi",
        {"params/_METADATA": "{}", "params/manifest.ocdbt": "", "assets/trossen/norm_stats.json": "{}"},
    ),
    "openpi in PyTorch": (Kind.OPENPI, "openpi", {"model.safetensors": "", "assets/droid/norm_stats.json": "{}"}),
    "lerobot": (
        Kind.LEROBOT,
        "a LeRobot policy of type 'smolvla'",
        {
            "config.json": {"type": "smolvla", "input_features": {}, "output_features": {}},
            "model.safetensors": "",
            "train_config.json": {},
        },
    ),
    "a lerobot data set": (
        Kind.LEROBOT_DATASET,
        "a LeRobot data set, not a policy",
        {"meta/info.json": {"codebase_version": "v3.0"}, "data/chunk-000/file-000.parquet": ""},
    ),
    "octo": (Kind.OCTO, "Octo", {"config.json": {"model": {}}, "example_batch.msgpack": "", "300000/checkpoint": ""}),
    "a language model": (
        Kind.TRANSFORMERS,
        "a Hugging Face model of type 'llama'",
        {"config.json": {"model_type": "llama"}, "model.safetensors": ""},
    ),
    "around a training": (
        Kind.UNKNOWN,
        "a directory around last/pretrained_model, a LeRobot policy",
        {"last/pretrained_model/config.json": {"type": "act", "input_features": {}, "output_features": {}}},
    ),
}


def write(directory: Path, files: dict[str, Any]) -> Path:
    """Write files by their names; mappings become JSON."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_checkpoint_of_another_project_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    kind, sentence, files = LAYOUTS[name]
    assert recognise(write(tmp_path / "run", files)).kind is kind
    with pytest.raises(CheckpointError, match=f"run: is .*{sentence}"):
        open_checkpoint(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("oft/" + COMPONENTS[0], "one component of an OpenVLA-OFT checkpoint"),
        ("openvla/" + SHARDS[0], "the weights of a checkpoint of OpenVLA"),
        ("lora/adapter_model.safetensors", "a LoRA adapter for openvla/openvla-7b"),
        ("lerobot/model.safetensors", "the weights of a LeRobot policy"),
        ("alone.pt", "a weights file alone; .*'checkpoints', .*config.json and dataset_statistics.json"),
        ("alone.ckpt", "a .ckpt file, and weights are read from .pt and .safetensors"),
        ("alone.txt", "not a weights file"),
    ],
)
def test_a_file_is_named_for_what_it_belongs_to(name: str, sentence: str, tmp_path: Path) -> None:
    for layout in ("oft", "openvla", "lora", "lerobot"):
        write(tmp_path / layout, LAYOUTS[layout][2])
    file = tmp_path / name
    file.touch()
    with pytest.raises(CheckpointError, match=f"{file.name}: is .*{sentence}"):
        open_checkpoint(file)


def test_the_directory_around_a_run_names_the_run(tmp_path: Path, random_run: Path) -> None:
    (tmp_path / "snapshots" / "1a2b").mkdir(parents=True)
    write_run_files(tmp_path / "snapshots" / "1a2b", "DiT-B", {})
    with pytest.raises(CheckpointError, match="is a directory around snapshots/1a2b, a run directory of CogACT; give "):
        open_checkpoint(tmp_path)
    assert recognise(random_run).kind is Kind.COGACT


def test_a_run_of_cogact_without_weights_is_told_where_they_belong(tmp_path: Path) -> None:
    write_run_files(tmp_path, "DiT-B", {})
    with pytest.raises(CheckpointError, match="found none; a run directory of CogACT has its weights"):
        open_checkpoint(tmp_path)


def test_openvla_in_the_layout_of_prismatic_is_told_by_the_missing_head(random_run: Path, tmp_path: Path) -> None:
    from sqap_vla_ros.policies.cogact.checkpoint import read_parts

    weights = open_checkpoint(random_run).weights
    parts = torch.load(weights, weights_only=True)["model"]
    del parts["action_model"]
    torch.save({"model": parts}, tmp_path / weights.name)
    with pytest.raises(CheckpointError, match="'action_model' is missing.*OpenVLA in Prismatic's layout"):
        read_parts(tmp_path / weights.name)


def test_a_refused_file_is_reported_without_control_sequences(tmp_path: Path) -> None:
    from sqap_vla_ros.policies.cogact.checkpoint import read_parts

    torch.save({"model": Path}, tmp_path / "run.pt")  # a class, which only code could restore
    with pytest.raises(CheckpointError, match="refused") as caught:
        read_parts(tmp_path / "run.pt")
    assert "\x1b" not in str(caught.value)


def test_a_mistyped_name_of_a_checkpoint_gets_a_hint() -> None:
    with pytest.raises(CheckpointError, match="did you mean 'libero_small'"):
        find_checkpoint("libero_smal")


def test_a_path_in_a_home_that_does_not_exist_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user id without an entry
    with pytest.raises(ValueError, match="~/run: there is no home directory"):
        find_checkpoint("~/run")
