"""The two checkpoints that come with the package belong together."""

from pathlib import Path

import pytest

from sqap_vla_ros.config.files import config_directory, named_checkpoint
from sqap_vla_ros.config.recipe import read_recipe
from sqap_vla_ros.policies.cogact.store import read_manifest
from sqap_vla_ros.tools.compression.companions import companion_hashes
from sqap_vla_ros.tools.compression.inspect import verify
from sqap_vla_ros.vlm.checkpoint import open_checkpoint


def test_the_compressed_checkpoint_is_made_of_the_float_one_with_the_recipe_of_its_name() -> None:
    directory = Path(named_checkpoint("libero_small_w4a4"))
    original = open_checkpoint("libero_small")
    manifest = read_manifest(directory)
    assert manifest.identity.source.sha256 == original.sha256()
    assert manifest.identity.beside == companion_hashes(original, None)
    assert manifest.identity.recipe == read_recipe("w4a4-residual")
    assert manifest.identity.calibration is not None and manifest.identity.calibration.frames == 32
    verify(directory, manifest)


def test_a_short_name_is_a_checkpoint_of_the_package_unless_there_is_a_path_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named_checkpoint("libero_small") == str(config_directory() / "checkpoints" / "libero_small")
    for other in ("", ".", "..", "owner/name", "no_such_checkpoint"):
        assert named_checkpoint(other) == other
    (tmp_path / "libero_small").mkdir()
    assert named_checkpoint("libero_small") == "libero_small"
