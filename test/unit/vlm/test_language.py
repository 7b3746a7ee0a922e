"""The prefill: against golden data, and with dropped tokens against a dense model that is told to ignore them."""

import numpy as np
import pytest
import torch

from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.language import language_layout, load_language
from sqap_vla_ros.vlm.weights import Part

VISUAL = 256
LAYER = 2


@pytest.fixture(scope="module")
def language(golden_model):
    return golden_model.language


@pytest.fixture(scope="module")
def embeddings(golden):
    return torch.from_numpy(golden("vla/vla_io.npz")["case0_inputs_embeds"])


@pytest.fixture(scope="module")
def dense(language):
    """The stock Llama with the same weights."""
    from transformers import LlamaConfig, LlamaModel  # seconds, which collecting the tests need not take

    shape = language.shape
    config = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        vocab_size=shape.vocabulary,
        rms_norm_eps=1e-5,
    )
    model = LlamaModel(config).eval()
    model.load_state_dict(language.state_dict())
    return model


def dense_prefill(dense, embeddings, dropped, first_layer, attention="sdpa"):
    """Last hidden states with some positions masked out from a layer on, and every layer's attention if eager."""
    dense.set_attn_implementation(attention)
    count = embeddings.shape[1]
    causal = torch.full((count, count), -torch.inf).triu(1)[None, None]
    masked = causal.clone()
    masked[..., dropped] = -torch.inf
    masked[..., dropped, dropped] = 0  # a row needs one entry; nobody looks at these rows
    rotations = dense.rotary_emb(embeddings, torch.arange(count)[None])
    hidden, attentions = embeddings, []
    for index, layer in enumerate(dense.layers):
        mask = masked if index >= first_layer else causal
        attentions.append(layer.self_attn(layer.input_layernorm(hidden), rotations, mask)[1])
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rotations)
    return dense.norm(hidden), attentions


def random_choice(seed, keep=154):
    return np.sort(np.random.default_rng(seed).choice(VISUAL, keep, replace=False))


@torch.no_grad()
def test_embeddings_are_bos_then_patches_then_text(golden, golden_model):
    io = golden("vla/vla_io.npz")
    patches = torch.from_numpy(golden("projector/projector_io.npz")["pattern_out"])
    embedded = golden_model.language.embed(torch.from_numpy(io["case0_input_ids"]), patches)
    np.testing.assert_allclose(embedded, io["case0_inputs_embeds"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_prefill_gives_the_reference_hidden_states(golden, language, embeddings):
    expected = golden("vla/vla_io.npz")
    prefill = language.prefill(embeddings, VISUAL, all_positions=True)
    np.testing.assert_allclose(prefill.last_hidden, expected["case0_last_hidden"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(prefill.cognition, expected["case0_cognition"], rtol=0, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("keep", [1, 154, 256])
def test_a_pruned_prefill_equals_a_dense_one_that_ignores_the_dropped_tokens(language, dense, embeddings, layer, keep):
    chosen = random_choice(keep, keep)
    prefill = language.prefill(
        embeddings, VISUAL, select=lambda evidence: chosen, prune_before_layer=layer, all_positions=True
    )
    dropped = 1 + np.setdiff1d(np.arange(VISUAL), chosen)
    expected, _ = dense_prefill(dense, embeddings, dropped, layer)
    kept = np.setdiff1d(np.arange(embeddings.shape[1]), dropped)
    np.testing.assert_array_equal(prefill.positions[0], kept)
    difference = torch.linalg.norm(prefill.last_hidden[0] - expected[0, kept])
    assert difference < 1e-6 * torch.linalg.norm(expected[0, kept])
    assert torch.equal(prefill.cognition, prefill.last_hidden[:, -1])


@torch.no_grad()
@pytest.mark.parametrize("layer", [1, 2])
def test_scores_are_the_last_position_s_attention_in_the_layer_before(language, dense, embeddings, layer):
    seen = []

    def select(evidence):
        seen.append(evidence.scores)
        return np.arange(10)

    language.prefill(embeddings, VISUAL, select=select, prune_before_layer=layer)
    _, attentions = dense_prefill(dense, embeddings, [], 0, "eager")
    expected = attentions[layer - 1][0, :, -1, 1 : 1 + VISUAL].mean(0)
    assert seen[0].shape == (VISUAL,) and seen[0].dtype == np.float32
    np.testing.assert_allclose(seen[0], expected, rtol=1e-4, atol=1e-8)


@torch.no_grad()
def test_evidence_of_a_padded_sample_is_that_of_the_sample_alone(language, dense, embeddings):
    short = embeddings[:, :-7]
    padding = torch.randn(1, 7, short.shape[2], generator=torch.Generator().manual_seed(0))
    seen = []

    def select(evidence):
        seen.append((evidence.text_attention(), evidence.states()))
        return np.arange(10)

    lengths = torch.tensor([embeddings.shape[1], short.shape[1]])
    language.prefill(torch.cat((embeddings, torch.cat((short, padding), 1))), VISUAL, lengths, select=select)
    for sample, (text_attention, states) in zip((embeddings, short), seen, strict=True):
        _, attentions = dense_prefill(dense, sample, [], 0, "eager")
        expected = attentions[LAYER - 1][0, :, 1 + VISUAL :, 1 : 1 + VISUAL].mean(0)
        np.testing.assert_allclose(text_attention, expected, rtol=1e-4, atol=1e-8)
        shallow = language.without_layers(range(LAYER, language.shape.depth))
        shallow.norm = torch.nn.Identity()
        stream = shallow.prefill(sample, VISUAL, all_positions=True).last_hidden[0]
        np.testing.assert_allclose(states, stream[1 : 1 + VISUAL], rtol=0, atol=2e-6)


@torch.no_grad()
@pytest.mark.parametrize("keep", [10, 256])
def test_the_cognition_feature_is_the_same_without_the_other_positions(language, embeddings, keep):
    options = {"select": lambda evidence: np.arange(keep)}
    every = language.prefill(embeddings, VISUAL, all_positions=True, **options)
    alone = language.prefill(embeddings, VISUAL, **options)
    assert alone.last_hidden is None
    assert torch.linalg.norm(alone.cognition - every.cognition) < 4e-7 * torch.linalg.norm(every.cognition)


@torch.no_grad()
def test_there_is_no_attention_before_the_first_layer(language, embeddings):
    def select(evidence):
        with pytest.raises(ValueError, match="no attention in front of the first layer"):
            evidence.text_attention()
        return np.arange(10)

    assert language.prefill(embeddings, VISUAL, select=select, prune_before_layer=0).scores is None


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 2])
def test_a_padded_batch_prunes_each_sample_as_if_it_were_alone(language, embeddings, layer):
    short = embeddings[:, :-7]
    padded = torch.cat((short, torch.randn(1, 7, short.shape[2], generator=torch.Generator().manual_seed(0))), dim=1)
    choices = [random_choice(0), random_choice(1)]
    alone = [
        language.prefill(sample, VISUAL, select=lambda evidence, c=choice: c, prune_before_layer=layer)
        for sample, choice in zip((embeddings, short), choices, strict=True)
    ]
    remaining = iter(choices)
    lengths = torch.tensor([embeddings.shape[1], short.shape[1]])
    both = language.prefill(
        torch.cat((embeddings, padded)),
        VISUAL,
        lengths,
        select=lambda evidence: next(remaining),
        prune_before_layer=layer,
    )
    np.testing.assert_allclose(both.cognition, torch.cat([one.cognition for one in alone]), rtol=0, atol=2e-6)
    if layer:
        np.testing.assert_allclose(both.scores, np.concatenate([one.scores for one in alone]), rtol=1e-4, atol=1e-8)


@torch.no_grad()
def test_rotary_angles_stay_exact_in_bfloat16(language):
    positions = torch.tensor([[280]])
    half, full = (
        rotary_tables(positions, language.shape.head_width, dtype) for dtype in (torch.bfloat16, torch.float32)
    )
    for rounded, exact in zip(half, full, strict=True):
        assert torch.equal(rounded, exact.bfloat16())
    assert not list(language.buffers()), "a buffer would be rounded by .to(torch.bfloat16)"


@torch.no_grad()
def test_grouped_query_attention_scores_and_prunes(language):
    """Keys and values repeated per query head are the same model."""
    grouped = {f"llm.model.{name}": value.clone() for name, value in language.state_dict().items()}
    repeated = dict(grouped)
    for name in grouped:
        if "k_proj" in name or "v_proj" in name:
            grouped[name] = grouped[name][:16]
            repeated[name] = grouped[name].view(2, 8, -1).repeat_interleave(2, 0).reshape(32, -1)
    embedded = torch.randn(1, 270, 32, generator=torch.Generator().manual_seed(0))
    models = [load_language(Part("llm_backbone", tensors), {"llm_heads": 4}) for tensors in (grouped, repeated)]
    assert [model.shape.kv_heads for model in models] == [2, 4]
    answers = [model.prefill(embedded, VISUAL, select=lambda evidence: np.arange(0, 256, 2)) for model in models]
    np.testing.assert_allclose(answers[0].scores, answers[1].scores, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(answers[0].cognition, answers[1].cognition, rtol=0, atol=2e-6)


@torch.no_grad()
@pytest.mark.parametrize("chosen", [[3, 2], [2, 2], [0, 256], [-1, 0], [], [0.5]])
def test_a_selection_that_is_not_ascending_indices_is_refused(language, embeddings, chosen):
    with pytest.raises(ValueError, match="expected ascending integer indices below 256"):
        language.prefill(embeddings, VISUAL, select=lambda evidence: np.array(chosen))


@torch.no_grad()
def test_a_batch_must_keep_the_same_number_for_every_sample(language, embeddings):
    counts = iter((5, 6))
    with pytest.raises(ValueError, match="same number for every sample"):
        language.prefill(embeddings.repeat(2, 1, 1), VISUAL, select=lambda evidence: np.arange(next(counts)))


@torch.no_grad()
@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_is_not_there_is_refused(language, embeddings, layer):
    with pytest.raises(ValueError, match=f"prune_before_layer = {layer}, expected 0 to 2"):
        language.prefill(embeddings, VISUAL, select=lambda evidence: np.arange(5), prune_before_layer=layer)


def test_the_layout_names_no_rotary_buffers(language):
    assert not [name for name in language_layout(language.shape).required if "rotary" in name]
