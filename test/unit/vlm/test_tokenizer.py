"""Prompts, token ids, and what is said when there is no tokenizer."""

import json
import shutil

import huggingface_hub
import pytest

from sqap_vla_ros.testing.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.vlm.tokenizer import BLANK_ID, BOS_ID, COGNITION_ID, TokenizerError, load_tokenizer, prompt


@pytest.fixture(scope="module")
def tokenizer(random_run):
    return load_tokenizer(random_run)


@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_the_prompt_is_the_reference_s(golden, case):
    settings = golden("vla/cases.json")[case]
    assert prompt(settings["instruction"]) == settings["prompt"]


@pytest.mark.parametrize("instruction", ["", "  \n"])
def test_an_empty_instruction_is_refused(instruction):
    with pytest.raises(ValueError, match="instruction is empty"):
        prompt(instruction)


def test_ids_begin_with_bos_and_end_with_the_blank_and_the_cognition_token(tokenizer):
    ids = tokenizer.encode("Open the drawer")
    assert ids.shape[0] == 1 and ids[0, 0] == BOS_ID and ids[0, -2:].tolist() == [BLANK_ID, COGNITION_ID]


def test_a_line_break_is_llama_s_byte(tokenizer):
    assert 13 in tokenizer.encode("open the drawer")[0]


def test_case_does_not_matter(tokenizer):
    assert tokenizer.encode("OPEN the Drawer").equal(tokenizer.encode("open the drawer"))


@pytest.mark.parametrize("instruction", ["zieh die grüne schüssel", "拿起碗", "a🤖b"])
def test_unknown_words_become_letters_and_bytes_never_unknown(tokenizer, instruction):
    assert 0 not in tokenizer.encode(instruction)[0]


def test_a_very_long_instruction_is_cut_to_the_published_length(tokenizer):
    assert tokenizer.encode("open the drawer " * 2000).shape == (1, 2050)


def test_a_batch_is_padded_on_the_right(tokenizer):
    ids, mask = tokenizer.encode_batch(["open the drawer", "open"])
    short = tokenizer.encode("open")[0]
    assert ids[1, : len(short)].equal(short) and set(ids[1, len(short) :].tolist()) == {32000}
    assert mask.sum(1).tolist() == [ids.shape[1], len(short)]


def test_the_tokenizer_in_the_directory_given_goes_first(tmp_path, random_run):
    write_small_tokenizer(tmp_path, ["grasp the zebra"])
    chosen = load_tokenizer(random_run, tmp_path).encode("grasp the zebra")
    assert chosen.shape[1] < load_tokenizer(random_run).encode("grasp the zebra").shape[1]


def test_without_a_tokenizer_and_offline_the_error_says_where_to_ask_and_how_to_pass_it(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the Hub was asked"))
    with pytest.raises(
        TokenizerError, match="HF_HUB_OFFLINE.*Ask for access.*meta-llama/Llama-2-7b-hf.*--tokenizer DIR"
    ):
        load_tokenizer(tmp_path)


def test_when_the_hub_does_not_give_it_the_error_says_where_to_ask(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(TokenizerError, match="the Hub did not give it.*Ask for access"):
        load_tokenizer(tmp_path)


def test_the_hub_s_tokenizer_is_used_when_there_is_no_other(tmp_path, monkeypatch, random_run):
    asked = []

    def download(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(random_run)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    load_tokenizer(tmp_path)
    assert asked == [("meta-llama/Llama-2-7b-hf", ["tokenizer.json"])]


def test_a_directory_without_a_tokenizer_is_named(tmp_path, random_run):
    with pytest.raises(TokenizerError, match="no tokenizer.json there"):
        load_tokenizer(random_run, tmp_path)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="not a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_with_other_ids_than_llama_s_is_refused(tmp_path, random_run):
    shutil.copy(random_run / "tokenizer.json", tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["<s>"], vocabulary["</s>"] = vocabulary["</s>"], vocabulary["<s>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match="id 1 is '</s>', expected '<s>' as in Llama-2"):
        load_tokenizer(tmp_path)
