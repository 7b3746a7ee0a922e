"""The table of token selectors: complete, and its backends on the device choose what the references choose."""

from typing import get_args

import numpy as np
import pytest
import torch

from sqap_vla_ros.config.pruning import EfficientVlaConfig, SqapConfig, VlaCacheConfig
from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.perception.patches import ring_centre
from sqap_vla_ros.vlm.preprocessing import model_image_affine
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.on_device import DeviceRing
from sqap_vla_ros.vlm.pruning.registry import SELECTORS, Scene, TokenDropping, kept_tokens, runs_on_device

SIZE, TEXT = (320, 240), 12
DROPPING = [kind() for kind in get_args(TokenDropping)]


@pytest.fixture
def inputs() -> SelectionInputs:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(256 + TEXT, 32, generator=generator)
    queries, keys = (torch.randn(4, 256 + TEXT, 8, generator=generator) for _ in range(2))
    return SelectionInputs(hidden, 256, queries, keys)


@pytest.mark.parametrize("config", DROPPING, ids=lambda config: config.method)
def test_every_method_that_drops_tokens_keeps_as_many_as_its_settings_say(
    config: TokenDropping, inputs: SelectionInputs
) -> None:
    selection = kept_tokens(config, inputs, Scene(SIZE, np.array([200.0, 100.0])))
    assert len(selection.indices) == config.keep and (np.diff(selection.indices) > 0).all()
    assert np.array_equal(np.flatnonzero(selection.reasons), selection.indices)


def test_the_table_has_just_the_methods_that_drop_tokens() -> None:
    assert set(SELECTORS) == {config.method for config in DROPPING}


@pytest.mark.parametrize("tool_px", [None, np.array([200.0, 100.0]), np.array([3.0, 237.0])])
@pytest.mark.parametrize("config", [config for config in DROPPING if runs_on_device(config)], ids=lambda c: c.method)
def test_on_the_device_the_same_tokens_are_chosen_as_by_the_reference(
    config: SqapConfig, tool_px: np.ndarray | None, inputs: SelectionInputs
) -> None:
    select = SELECTORS[config.method].on_device
    assert select is not None and inputs.queries is not None and inputs.keys is not None
    centre = ring_centre(tool_px, model_image_affine(*SIZE))
    ring = DeviceRing(torch.tensor([centre or (0, 0)], dtype=torch.int32), torch.tensor([centre is not None]))
    last = torch.tensor([len(inputs.hidden) - 1])
    found = select(config, inputs.queries[None], inputs.keys[None], last, ring, 16)
    wanted = kept_tokens(config, inputs, Scene(SIZE, tool_px))
    assert bool((wanted.reasons & Reason.RING).any()) == (tool_px is not None)
    np.testing.assert_array_equal(found.scores[0], inputs.scores)
    np.testing.assert_array_equal(found.indices[0], wanted.indices)
    np.testing.assert_array_equal(found.reasons[0], wanted.reasons)


def test_graphs_are_for_methods_with_a_backend_on_the_device_and_for_no_pruning() -> None:
    assert runs_on_device(None) and runs_on_device(SqapConfig())
    assert not runs_on_device(VlaCacheConfig()) and not runs_on_device(EfficientVlaConfig())
