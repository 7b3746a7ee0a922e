"""VLA-Cache's prefill against the dense one, and against the method written out without any cache."""

import numpy as np
import pytest
import torch
from small_language import random_language, written_out

from sqap_vla_ros.config.pruning import VlaCacheConfig
from sqap_vla_ros.vlm.attention import rotary_tables
from sqap_vla_ros.vlm.frame_reuse import FrameReuse
from sqap_vla_ros.vlm.layers import project_heads
from sqap_vla_ros.vlm.pruning.vla_cache import patch_similarity, reusable_tokens, reuse_shares

VISUAL, TEXT, DEPTH, HEAD_WIDTH = 256, 9, 6, 8
COUNT = VISUAL + TEXT
CONFIG = VlaCacheConfig(reuse_before_layers=(1, 3, 4), relevance_layer=2, relevant=60)


@pytest.fixture(scope="module")
def language():
    return random_language(DEPTH)


def frame(seed, changed_rows=16, base=None):
    """A model image and embeddings in which the first rows of patches differ from those of `base`."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (224, 224, 3), np.uint8)
    embeddings = torch.from_numpy(generator.standard_normal((1, COUNT, 32), np.float32))
    if base is not None:
        image[14 * changed_rows :] = base[0][14 * changed_rows :]
        unchanged = slice(1 + 16 * changed_rows, None)
        embeddings[:, unchanged] = base[1][:, unchanged]
    return image, embeddings


def prefill(reuse, language, image_and_embeddings):
    image, embeddings = image_and_embeddings
    with torch.no_grad():
        return reuse.prefill(language, embeddings, VISUAL, image).cognition


def dense(language, image_and_embeddings):
    with torch.no_grad():
        return language.prefill(image_and_embeddings[1], VISUAL).cognition


@torch.no_grad()
def without_a_cache(language, embeddings, previous, leaving):
    """All layers with attention written out.

    Returns the cognition feature, per layer the keys and values of all positions, and the head-mean attention.
    """
    active, hidden = torch.arange(COUNT), embeddings
    stored, attentions = [], []
    for index, layer in enumerate(language.layers):
        stays = torch.tensor([position not in leaving.get(index, ()) for position in active.tolist()])
        active, hidden = active[stays], hidden[:, stays]
        rotations = rotary_tables(active[None], HEAD_WIDTH, hidden.dtype)
        queries, keys, values = (part[0] for part in project_heads(layer, hidden, rotations, HEAD_WIDTH))
        whole = (
            [part.clone() for part in previous[index]] if previous else [hidden.new_zeros(4, COUNT, 8) for _ in "kv"]
        )
        whole[0][:, active], whole[1][:, active] = keys, values
        mixed, probabilities = written_out(queries, *whole, active)
        stored.append(whole)
        attentions.append((active, probabilities.mean(0)))
        hidden = layer.add_feed_forward(layer.add_attention(hidden, mixed))
    return language.norm(hidden)[:, -1], stored, attentions


def test_the_first_frame_is_the_dense_prefill_bit_for_bit(language):
    first = frame(0)
    assert torch.equal(prefill(FrameReuse(CONFIG), language, first), dense(language, first))


def test_a_frame_in_which_everything_changed_is_the_dense_prefill_bit_for_bit(language):
    reuse, second = FrameReuse(CONFIG), frame(1)
    prefill(reuse, language, frame(0))
    assert torch.equal(prefill(reuse, language, second), dense(language, second))
    assert not reuse.reused.size


def test_after_a_reset_a_frame_is_the_dense_prefill_bit_for_bit(language):
    reuse, first = FrameReuse(CONFIG), frame(0)
    prefill(reuse, language, first)
    reuse.reset()
    second = frame(1, 3, first)
    assert torch.equal(prefill(reuse, language, second), dense(language, second))


def test_an_unchanged_frame_reuses_tokens_and_gives_the_dense_answer(language):
    reuse, first = FrameReuse(CONFIG), frame(0)
    expected = prefill(reuse, language, first)
    again = prefill(reuse, language, first)
    assert len(reuse.reused) > 30
    torch.testing.assert_close(again, expected, rtol=0, atol=2e-6)


def test_an_unchanged_image_with_another_instruction_gives_the_dense_answer(language):
    """Visual tokens never see the text behind them."""
    reuse, first = FrameReuse(CONFIG), frame(0)
    prefill(reuse, language, first)
    image, embeddings = frame(1)
    other = image * 0 + first[0], torch.cat((first[1][:, : 1 + VISUAL], embeddings[:, : TEXT + 3]), 1)
    torch.testing.assert_close(prefill(reuse, language, other), dense(language, other), rtol=0, atol=2e-6)
    assert len(reuse.reused) > 30


def test_three_frames_are_the_method_written_out():
    """In float64, where sums in another order are the same to many digits on every machine."""
    reuse, language = FrameReuse(CONFIG), random_language(DEPTH).double()
    frames = [frame(0)]
    frames += [frame(1, 3, frames[0])]
    frames += [frame(2, 5, frames[1])]
    frames = [(image, embeddings.double()) for image, embeddings in frames]
    previous = attentions = None
    for index, (image, embeddings) in enumerate(frames):
        leaving, gone = {}, set()
        if attentions:
            rows, attention = attentions[CONFIG.relevance_layer]
            relevance = attention[rows > VISUAL, 1 : 1 + VISUAL].mean(0).numpy()
            entropies = np.array([torch.special.entr(rows).sum(-1).mean().item() for _, rows in attentions])
            shares = reuse_shares(entropies, CONFIG.damping)
            similarity = patch_similarity(image, frames[index - 1][0])
            tokens = reusable_tokens(similarity, relevance, CONFIG.similarity, CONFIG.most_reused, CONFIG.relevant)
            for layer in CONFIG.reuse_before_layers:
                leaving[layer] = set((1 + tokens[: int(shares[layer] * len(tokens))]).tolist())
                gone |= leaving[layer]
        expected, previous, attentions = without_a_cache(language, embeddings, previous, leaving)
        torch.testing.assert_close(prefill(reuse, language, (image, embeddings)), expected, rtol=0, atol=1e-6)
        assert set(reuse.reused.tolist()) == {position - 1 for position in gone}
    assert gone and (expected - dense(language, frames[-1])).abs().max() > 1e-2


def test_reused_tokens_leave_the_residual_stream(language):
    reuse, first = FrameReuse(CONFIG), frame(0)
    with torch.no_grad():
        reuse.prefill(language, first[1], VISUAL, first[0])
        positions = reuse.prefill(language, first[1], VISUAL, first[0]).positions[0]
    assert set(range(COUNT)) - set(positions.tolist()) == set((1 + reuse.reused).tolist())


def test_layers_that_a_model_does_not_have_are_left_out():
    shallow, first = random_language(2), frame(0)
    reuse = FrameReuse(VlaCacheConfig())
    expected = prefill(reuse, shallow, first)
    assert torch.equal(prefill(reuse, shallow, first), expected) and not reuse.reused.size


def test_a_batch_of_frames_is_refused(language):
    image, embeddings = frame(0)
    with pytest.raises(ValueError, match="2 samples: frames follow one another"):
        FrameReuse(CONFIG).prefill(language, embeddings.repeat(2, 1, 1), VISUAL, image)
