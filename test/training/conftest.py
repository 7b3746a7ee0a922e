"""Demonstrations without a simulator, and one thread: what is multiplied here is too small for more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from synthetic_demonstrations import write_demonstrations

from sqap_vla_ros.cogact.small_tokenizer import write_small_tokenizer
from sqap_vla_ros.cogact.tokenizer import load_tokenizer
from sqap_vla_ros.config import Configuration, load_configuration
from sqap_vla_ros.training.batches import Text
from sqap_vla_ros.training.dataset import DemonstrationSet, read_demonstrations


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
