"""A GPU that fails ends the graphs once, audibly, and says what to do."""

import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch

from sqap_vla_ros.config.pruning import SqapConfig
from sqap_vla_ros.core.errors import GpuLost
from sqap_vla_ros.policies.cogact.diffusion import Ddim
from sqap_vla_ros.policies.cogact.fast import graphs
from sqap_vla_ros.policies.cogact.fast.fast_head import make_fast
from sqap_vla_ros.policies.cogact.fast.graph_forward import GraphForward
from sqap_vla_ros.policies.cogact.fast.graphs import BUCKET, GraphedPlans
from sqap_vla_ros.vlm.preprocessing import resize

IDS = torch.tensor([[1, 5, 9, 12, 7, 29871, 2]])
NOISE = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(0))
IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


class RunEachTime:
    """A graph where there is no GPU: it runs the function instead of what was recorded."""

    recorded: list[Callable[[], None]] = []

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self.recorded.append(function)
        self.replay = function


@pytest.fixture
def plans(random_model, monkeypatch: pytest.MonkeyPatch) -> GraphedPlans:
    monkeypatch.setattr(graphs, "Graph", RunEachTime)
    monkeypatch.setattr(RunEachTime, "recorded", [])
    return GraphedPlans(random_model, None, Ddim(), 1.5)


def test_a_plan_is_that_of_the_plain_path(random_model, plans: GraphedPlans) -> None:
    found = plans.plan(resize(IMAGE), IDS, NOISE)
    assert found is not None
    wanted = random_model.plan(IMAGE, IDS, NOISE)
    np.testing.assert_allclose(found.raw_samples, wanted.raw_samples, rtol=0, atol=1e-5)


def test_texts_of_about_the_same_length_share_a_graph(plans: GraphedPlans) -> None:
    for text in (5, 8, 9, 16):
        plans.plan(resize(IMAGE), torch.full((1, text), 7), NOISE)
    assert len(RunEachTime.recorded) == 2


def test_a_failure_is_said_once_and_ends_the_graphs(
    plans: GraphedPlans, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(function: Callable[[], None], device: torch.device) -> None:
        raise torch.cuda.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(graphs, "Graph", no_memory)
    with caplog.at_level(logging.WARNING):
        assert [plans.plan(resize(IMAGE), IDS, NOISE) for _ in range(3)] == [None] * 3
    (record,) = caplog.records
    assert "planning without CUDA graphs from now on" in record.getMessage()
    assert "nvidia-smi" in record.getMessage() and "20 GiB" in record.getMessage()


def test_a_gpu_that_is_lost_is_told(plans: GraphedPlans, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(function: Callable[[], None], device: torch.device) -> None:
        raise RuntimeError("CUDA error: misaligned address")

    def lose(device: torch.device) -> None:
        raise GpuLost("the GPU answers this process no more")

    monkeypatch.setattr(graphs, "Graph", fail)
    monkeypatch.setattr(graphs, "recover", lose)
    with pytest.raises(GpuLost):
        plans.plan(resize(IMAGE), IDS, NOISE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("fast", [False, True], ids=["as it is", "fused"])
@pytest.mark.parametrize("pruning", [None, SqapConfig()], ids=["all tokens", "pruned"])
def test_a_recorded_graph_plans_as_the_same_run_plainly(random_model, fast: bool, pruning: SqapConfig | None) -> None:
    model = random_model.to("cuda")
    if fast:
        make_fast(model)
    found = GraphedPlans(model, pruning, Ddim(), 1.5).plan(resize(IMAGE), IDS, NOISE, (7, 8))
    assert found is not None
    plainly = GraphForward(model, BUCKET, pruning=pruning)
    plainly.load(resize(IMAGE), IDS, NOISE, (7, 8))
    plainly.run()
    wanted = plainly.result().raw_samples
    assert np.linalg.norm(found.raw_samples - wanted) <= 1e-2 * np.linalg.norm(wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_recorded_graph_plans_as_the_plain_path(random_model) -> None:
    model = random_model.to("cuda")
    found = GraphedPlans(model, None, Ddim(), 1.5).plan(resize(IMAGE), IDS, NOISE)
    assert found is not None
    wanted = model.plan(IMAGE, IDS, NOISE).raw_samples
    assert np.linalg.norm(found.raw_samples - wanted) <= 1e-2 * np.linalg.norm(wanted)
