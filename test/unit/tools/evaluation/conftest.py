"""Settings of one small evaluation; episodes are played in this process."""

import pytest
from inline_jobs import run_inline
from small_evaluation import small_evaluation

from sqap_vla_ros.tools.evaluation.run import Evaluation


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """One set of compressed weights for all tests of this folder."""
    return small_evaluation(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(autouse=True)
def _no_worker_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqap_vla_ros.tools.evaluation.run.run_jobs", run_inline)
