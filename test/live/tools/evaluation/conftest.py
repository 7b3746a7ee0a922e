"""Settings of one small evaluation; episodes are played in worker processes."""

import pytest
from small_evaluation import small_evaluation

from sqap_vla_ros.tools.evaluation.run import Evaluation


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """One set of compressed weights for all tests of this folder."""
    return small_evaluation(tmp_path_factory.mktemp("evaluation"))
