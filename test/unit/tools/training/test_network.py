"""Networks to be trained, and their export."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from sqap_vla_ros.policies.cogact.checkpoint import load_cogact
from sqap_vla_ros.policies.cogact.model import CogACT
from sqap_vla_ros.policies.cogact.published import layouts
from sqap_vla_ros.testing.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.tools.training.batches import Text
from sqap_vla_ros.tools.training.export import VOCABULARY, export_parts, write_run
from sqap_vla_ros.tools.training.network import SIZES, fresh_network, network_shapes, sine_cosine_positions
from sqap_vla_ros.vlm.checkpoint import open_checkpoint
from sqap_vla_ros.vlm.statistics import ActionStatistics
from sqap_vla_ros.vlm.tokenizer import PAD_ID, load_tokenizer

INSTRUCTIONS = ("open the drawer", "put the bowl on the plate")
STATISTICS = ActionStatistics("libero", -np.ones(7), np.ones(7), np.arange(7) < 6)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[CogACT, Text, Path]:
    """A network whose weights are all other than at the beginning, its text and its run directory."""
    directory = tmp_path_factory.mktemp("exported")
    write_small_tokenizer(directory, INSTRUCTIONS)
    text = Text.of(load_tokenizer(directory), INSTRUCTIONS)
    network = fresh_network(SIZES["tiny"], len(text.vocabulary), seed=3)
    generator = torch.Generator().manual_seed(4)
    for parameter in network.parameters():
        # float16 numbers: nothing is lost on the way through the file.
        parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        parameter.copy_(parameter.half())
    write_run(directory, network, "tiny", SIZES["tiny"], text.vocabulary, STATISTICS, {})
    return network, text, directory


def test_an_exported_network_gives_the_same_answer_to_the_bit(exported: tuple[CogACT, Text, Path]) -> None:
    network, text, directory = exported
    loaded = load_cogact(open_checkpoint(directory))
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    noise = torch.randn((1, 16, 7), generator=torch.Generator().manual_seed(1))
    for task, instruction in enumerate(INSTRUCTIONS):
        ids = load_tokenizer(directory).encode(instruction)
        here = network.plan(image, text.rows[task : task + 1, : ids.shape[1]], noise)
        there = loaded.plan(image, ids, noise)
        np.testing.assert_array_equal(here.raw_samples, there.raw_samples)
        np.testing.assert_array_equal(here.cognition, there.cognition)


def test_an_export_has_the_required_tensors_of_the_layout_and_no_others(exported: tuple[CogACT, Text, Path]) -> None:
    network, text, _ = exported
    expected = {
        f"{part}.{name}": shape
        for part, layout in layouts(network_shapes(SIZES["tiny"], VOCABULARY)).items()
        for name, shape in layout.required.items()
    }
    found = export_parts(network, SIZES["tiny"], text.vocabulary)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected


@pytest.mark.parametrize(("size", "limit_mb"), [("small", 32), ("medium", 40)])
def test_a_size_is_small_enough_to_be_shipped(size: str, limit_mb: float) -> None:
    count = sum(
        torch.Size(shape).numel()
        for layout in layouts(network_shapes(SIZES[size], VOCABULARY)).values()
        for shape in layout.required.values()
    )
    assert 2 * count < limit_mb * 1e6


def test_a_fresh_action_head_answers_with_zeros() -> None:
    head = fresh_network(SIZES["tiny"], 40, seed=0).action_head
    answer = head(torch.randn(2, 16, 7), torch.tensor([0, 99]), torch.randn(2, 1, 64))
    assert not answer.any()


def test_the_same_seed_draws_the_same_network() -> None:
    first, second, other = (
        torch.cat([p.flatten() for p in fresh_network(SIZES["tiny"], 40, seed).parameters()]) for seed in (1, 1, 2)
    )
    assert first.equal(second)
    assert not first.equal(other)


def test_heads_divide_the_widths() -> None:
    for size in SIZES.values():
        assert all(heads >= 1 for heads in asdict(size.heads).values())
        assert all(width % size.head_width == 0 for width, _ in (size.tower, size.language, size.action_head))


def test_positions_say_row_and_column() -> None:
    positions = sine_cosine_positions(16, 32).view(16, 16, 32)
    assert positions[3, :, :16].equal(positions[3, :1, :16].expand(16, -1))
    assert positions[:, 5, 16:].equal(positions[:1, 5, 16:].expand(16, -1))
    assert torch.pdist(positions.flatten(0, 1)).min() > 0.1


def test_padded_instructions_share_a_table_of_the_ids_in_use(exported: tuple[CogACT, Text, Path]) -> None:
    _, text, directory = exported
    tokenizer = load_tokenizer(directory)
    for task, instruction in enumerate(INSTRUCTIONS):
        assert text.vocabulary[text.rows[task][text.mask[task]]].equal(tokenizer.encode(instruction)[0])
    assert (text.vocabulary[text.rows[~text.mask]] == PAD_ID).all()
    assert text.rows.shape[1] % 8 == 0
