"""The static forward is the plain plan, run without ever asking the host."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.core.token_selection import TokenSelection
from sqap_vla_ros.policies.cogact.diffusion import Ddim, Held
from sqap_vla_ros.policies.cogact.fast.graph_forward import GraphForward, GraphPlan
from sqap_vla_ros.policies.cogact.model import CogACT, Prediction
from sqap_vla_ros.vlm.preprocessing import resize
from sqap_vla_ros.vlm.pruning.inputs import SelectionInputs
from sqap_vla_ros.vlm.pruning.sqap import select_tokens

IDS = torch.tensor([[1, 5, 9, 12, 7, 29871, 2]])
NOISE = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(0))
IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
SQAP = SqapConfig()


def ring(centre: tuple[int, int] | None) -> NDArray[np.int64]:
    if centre is None:
        return np.zeros(0, np.int64)
    row, column = np.divmod(np.arange(256), 16)
    return np.flatnonzero(np.maximum(abs(column - centre[0]), abs(row - centre[1])) <= SQAP.ring_radius)


def plain(
    model: CogACT, centre: tuple[int, int] | None = None, *, prune: bool = False, held: Held | None = None
) -> tuple[Prediction, TokenSelection | None]:
    chosen: list[TokenSelection] = []

    def select(evidence: SelectionInputs) -> NDArray[np.int64]:
        chosen.append(select_tokens(evidence.scores, ring(centre), SQAP.keep, SQAP.top_k))
        return chosen[0].indices

    prediction = model.plan(IMAGE, IDS, NOISE, select=select if prune else None, held=held)
    return prediction, chosen[0] if chosen else None


def static(
    model: CogACT,
    centre: tuple[int, int] | None = None,
    *,
    prune: bool = False,
    room: int = IDS.shape[1],
    held: Held | None = None,
) -> GraphPlan:
    forward = GraphForward(model, room, pruning=SQAP if prune else None)
    forward.load(resize(IMAGE), IDS, NOISE, centre, held)
    forward.run()
    return forward.result()


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize("centre", [None, (3, 12), (0, 15)])
def test_it_is_the_plain_plan_to_the_last_bit(
    golden_model: CogACT, prune: bool, centre: tuple[int, int] | None
) -> None:
    wanted, selection = plain(golden_model, centre, prune=prune)
    found = static(golden_model, centre, prune=prune)
    assert found.raw_samples.tobytes() == wanted.raw_samples.tobytes()
    assert found.cognition.tobytes() == wanted.cognition.tobytes()
    if selection is None:
        assert found.scores is None and found.reasons is None
    else:
        assert wanted.scores is not None
        np.testing.assert_array_equal(found.scores, wanted.scores[0])
        np.testing.assert_array_equal(found.reasons, selection.reasons)


@pytest.mark.parametrize("prune", [False, True])
def test_room_for_a_longer_text_changes_nothing_but_the_last_digits(golden_model: CogACT, prune: bool) -> None:
    wanted, _ = plain(golden_model, (3, 12), prune=prune)
    found = static(golden_model, (3, 12), prune=prune, room=16)
    np.testing.assert_allclose(found.raw_samples, wanted.raw_samples, rtol=0, atol=1e-5)


def test_each_run_reads_the_inputs_that_were_loaded_last(golden_model: CogACT) -> None:
    forward = GraphForward(golden_model, IDS.shape[1], pruning=SQAP)
    forward.load(resize(255 - IMAGE), IDS.flip(1), -NOISE, (8, 8), Held(torch.zeros(1, 16, 7), torch.ones(16, 1)))
    forward.run()
    forward.load(resize(IMAGE), IDS, NOISE)
    forward.run()
    wanted, _ = plain(golden_model, prune=True)
    assert forward.result().raw_samples.tobytes() == wanted.raw_samples.tobytes()


def test_committed_actions_come_out_as_they_are_and_the_others_follow_them(golden_model: CogACT) -> None:
    held = Held(torch.linspace(-0.5, 0.5, 112).view(1, 16, 7), torch.tensor([1.0] * 4 + [0.5] * 4 + [0.0] * 8)[:, None])
    found = static(golden_model, held=held).raw_samples
    np.testing.assert_array_equal(found[:, :4], held.actions[:, :4].numpy())
    assert not np.array_equal(found[:, 4:], plain(golden_model)[0].raw_samples[:, 4:])
    assert found.tobytes() == plain(golden_model, held=held)[0].raw_samples.tobytes()


def test_a_text_that_is_too_long_is_refused(golden_model: CogACT) -> None:
    forward = GraphForward(golden_model, 4)
    with pytest.raises(ValueError, match="7 token ids, but this forward has room for 4"):
        forward.load(resize(IMAGE), IDS, NOISE)


def test_other_steps_and_guidance_are_followed(golden_model: CogACT) -> None:
    forward = GraphForward(golden_model, IDS.shape[1], sampler=Ddim(5), guidance=1.0)
    forward.load(resize(IMAGE), IDS, NOISE)
    forward.run()
    wanted = golden_model.plan(IMAGE, IDS, NOISE, sampler=Ddim(5), guidance=1.0)
    assert forward.result().raw_samples.tobytes() == wanted.raw_samples.tobytes()
