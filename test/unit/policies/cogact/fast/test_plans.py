"""A policy that plans by graphs answers what it answers without them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.policies.cogact.fast import graphs
from sqap_vla_ros.policies.cogact.policy import CogACTPolicy
from sqap_vla_ros.policies.registry import load_policy

SAID: list[str] = []


class RunEachTime:
    """A graph where there is no GPU."""

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self.replay = function


def fail(function: Callable[[], None], device: torch.device) -> None:
    raise RuntimeError("CUDA error: misaligned address")


def policy_of(run: Path, name: str) -> CogACTPolicy:
    configuration = load_configuration("libero_panda", checkpoint=str(run), policy=name, torch_threads=1, device="cpu")
    policy = load_policy(configuration, SAID.append)
    assert isinstance(policy, CogACTPolicy)
    return policy


def observation() -> Observation:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    return Observation(7, image, "open the drawer", np.eye(4), np.array([20.0, 110.0]))


@pytest.mark.parametrize("name", ["fp16", "sqap"])
def test_actions_and_tokens_are_those_without_graphs(
    random_run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(graphs, "Graph", RunEachTime)
    policy = policy_of(random_run, name)
    wanted = policy.plan(observation())
    policy.record_graphs(SAID.append)
    found = policy.plan(observation())
    assert list(found.timings_s) == ["preprocess", "graph"]
    span = np.ptp(wanted.actions, axis=0)
    assert np.abs(found.actions - wanted.actions)[:, :6].max() < 1e-2 * span[:6].max()
    np.testing.assert_array_equal(found.selection.indices, wanted.selection.indices)
    np.testing.assert_array_equal(found.selection.reasons, wanted.selection.reasons)


@pytest.mark.parametrize("name", ["vla_cache", "fastv"])
def test_policies_that_choose_on_the_host_plan_without_graphs(
    random_run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(graphs, "Graph", fail)
    policy = policy_of(random_run, name)
    policy.record_graphs(SAID.append)
    assert "language" in policy.plan(observation()).timings_s


def test_a_gpu_that_fails_leaves_a_policy_that_plans(
    random_run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(graphs, "Graph", fail)
    policy = policy_of(random_run, "sqap")
    policy.record_graphs(SAID.append)
    assert "language" in policy.plan(observation()).timings_s
    assert len([record for record in caplog.records if "misaligned address" in record.getMessage()]) == 1
