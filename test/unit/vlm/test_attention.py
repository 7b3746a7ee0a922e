"""Single rows of attention, and a last layer that answers for one position."""

import pytest
import torch
from small_language import random_language, written_out

from sqap_vla_ros.vlm.attention import attention_rows, rotary_tables
from sqap_vla_ros.vlm.layers import project_heads, run_layer
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs

COUNT, VISUAL, WIDTH = 30, 16, 8


@pytest.fixture(scope="module")
def hidden():
    return torch.randn(2, COUNT, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def layer():
    return random_language(1).layers[0]


ROTATIONS = rotary_tables(torch.arange(COUNT)[None], WIDTH, torch.float32)


@torch.no_grad()
def test_rows_are_those_of_the_whole_attention_matrix(layer, hidden):
    queries, keys, values = (part[0] for part in project_heads(layer, hidden, ROTATIONS, WIDTH))
    _, whole = written_out(queries, keys, values, torch.arange(COUNT))
    positions = torch.tensor([0, 7, 29])
    rows = attention_rows(queries[:, positions], keys, positions)
    torch.testing.assert_close(rows, whole[:, positions].mean(0), rtol=1e-5, atol=1e-7)


@torch.no_grad()
def test_evidence_is_the_attention_of_the_last_position_and_of_the_text_to_the_visual_tokens(layer, hidden):
    queries, keys, values = (part[0] for part in project_heads(layer, hidden, ROTATIONS, WIDTH))
    _, whole = written_out(queries, keys, values, torch.arange(COUNT))
    to_visual = whole.mean(0)[:, 1 : 1 + VISUAL]
    evidence = SelectionInputs(hidden[0], VISUAL, queries, keys)
    torch.testing.assert_close(torch.from_numpy(evidence.scores), to_visual[-1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        torch.from_numpy(evidence.text_attention()), to_visual[1 + VISUAL :], rtol=1e-5, atol=1e-7
    )
    assert torch.equal(torch.from_numpy(evidence.states()), hidden[0, 1 : 1 + VISUAL])


@torch.no_grad()
def test_one_wanted_position_gets_the_answer_that_it_has_among_all(layer, hidden):
    every, _, _ = run_layer(layer, hidden, ROTATIONS, WIDTH)
    wanted = torch.tensor([29, 11])
    one, _, _ = run_layer(layer, hidden, ROTATIONS, WIDTH, wanted)
    assert one.shape == (2, 1, 32)
    torch.testing.assert_close(one[:, 0], every[torch.arange(2), wanted], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_half_precision_model_s_rows_are_float32(layer, hidden):
    queries, keys, _ = (part[0].bfloat16() for part in project_heads(layer, hidden, ROTATIONS, WIDTH))
    rows = attention_rows(queries, keys, torch.arange(COUNT))
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.sum(-1), torch.ones(COUNT), rtol=0, atol=1e-6)
