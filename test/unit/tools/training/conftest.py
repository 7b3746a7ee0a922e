"""Demonstrations without a simulator, and one thread: what is multiplied here is too small for more."""

from pathlib import Path

import pytest
from synthetic_demonstrations import write_demonstrations

from sqap_vla_ros.config.robot import Configuration, load_configuration
from sqap_vla_ros.testing.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.tools.training.batches import Text
from sqap_vla_ros.tools.training.dataset import DemonstrationSet, read_demonstrations
from sqap_vla_ros.vlm.tokenizer import load_tokenizer


@pytest.fixture(scope="session")
def configuration() -> Configuration:
    return load_configuration("libero_panda")


@pytest.fixture(scope="session")
def demonstration_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of each of two tasks; not to be changed."""
    return write_demonstrations(tmp_path_factory.mktemp("demonstrations"), ("reach", "touch"), 3)


@pytest.fixture(scope="session")
def demonstrations(demonstration_folder: Path, configuration: Configuration) -> DemonstrationSet:
    return read_demonstrations(demonstration_folder, (), configuration)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory, demonstrations: DemonstrationSet) -> Text:
    directory = tmp_path_factory.mktemp("tokenizer")
    write_small_tokenizer(directory, demonstrations.instructions)
    return Text.of(load_tokenizer(directory), demonstrations.instructions)
