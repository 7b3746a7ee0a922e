"""A policy on a small random checkpoint that has the statistics of SIMPLER's robots."""

import json
from pathlib import Path

import pytest

from sqap_vla_ros.simulation.simpler.convention import SETUPS
from sqap_vla_ros.testing.random_checkpoint import STATISTICS_KEY, write_random_checkpoint


@pytest.fixture(scope="session")
def simpler_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory; not to be changed."""
    run = write_random_checkpoint(tmp_path_factory.mktemp("simpler") / "tiny", "tiny")
    path = run / "dataset_statistics.json"
    action = json.loads(path.read_text())[STATISTICS_KEY]
    path.write_text(json.dumps({setup.statistics_key: action for setup in SETUPS.values()}))
    return run
