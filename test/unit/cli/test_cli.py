"""Commands on checkpoints: what they make, print and reject."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sqap_vla_ros.cli import main
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint

STORE = get_typestore(Stores.ROS2_JAZZY)

SqapVla = Callable[..., tuple[int, str, str]]
"""The words of a command line -> its exit code and its output on stdout and on stderr."""


@pytest.fixture
def sqap_vla(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> SqapVla:
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sqap-vla", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """What is multiplied here is so small that threads cost more than they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of a tiny random checkpoint; not to be changed."""
    return write_random_checkpoint(tmp_path_factory.mktemp("run") / "tiny", "tiny")


def bag_without_images(path: Path) -> Path:
    """A recording with an instruction and nothing else."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        text = STORE.types["std_msgs/msg/String"](data="open the drawer")
        connection = writer.add_connection("/sqap_vla/instruction", text.__msgtype__, typestore=STORE)
        writer.write(connection, 1, STORE.serialize_cdr(text, text.__msgtype__))
    return path


def pictures(path: Path) -> Path:
    """Two pictures of noise."""
    path.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(path / f"{name}.png"), np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    return path


def test_a_unit_in_brackets_is_printed(sqap_vla: SqapVla) -> None:
    code, out, _ = sqap_vla("bench", "--calculated")
    assert code == 0 and "floors [ms]" in out


def test_the_options_of_compress_are_listed(sqap_vla: SqapVla) -> None:
    _, out, _ = sqap_vla("compress", "--help")
    for option in ("run directory", "--recipe", "--out", "--calibration", "--frames", "--tokenizer", "--device"):
        assert option in out


@pytest.mark.slow
def test_a_checkpoint_is_compressed_next_to_it_and_can_be_inspected(
    sqap_vla: SqapVla, run_directory: Path, tmp_path: Path
) -> None:
    source = pictures(tmp_path / "pictures")
    command = ["compress", run_directory, "--calibration", source, "--frames", 2, "--instruction", "open the drawer"]
    code, out, error = sqap_vla(*command)
    assert (code, error) == (0, "")
    made = run_directory.with_name("tiny-w4a4")
    assert f"sqap-vla inspect {made}" in out and "2 frames of" in out

    code, out, error = sqap_vla("inspect", made, "--verify")
    assert (code, error) == (0, "")
    assert "llm 2 down_proj" in out and "w4a4" in out and "all 7 files are as they were written" in out

    code, _, error = sqap_vla(*command)
    assert code == 2 and "holds a complete compressed checkpoint; choose another directory" in error


def test_fewer_frames_than_asked_for_are_noted(sqap_vla: SqapVla, run_directory: Path, tmp_path: Path) -> None:
    source = pictures(tmp_path / "pictures")
    command = ["--calibration", source, "--frames", 5, "--instruction", "open the drawer", "--out", tmp_path / "out"]
    code, out, _ = sqap_vla("compress", run_directory, *command)
    assert code == 0 and "2 calibration frames instead of 5" in out


def test_a_recipe_of_ones_own_is_a_file(sqap_vla: SqapVla, run_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nweights: {bits: 8, rounding: nearest}\nactivations: {bits: 8}\n")
    code, out, _ = sqap_vla("compress", run_directory, "--recipe", tmp_path / "mine.yaml", "--out", tmp_path / "out")
    assert code == 0 and "mine" in out and (tmp_path / "out" / "compressed.json").is_file()


def test_a_run_without_frames_reports_what_it_leaves_out(
    sqap_vla: SqapVla, run_directory: Path, tmp_path: Path
) -> None:
    code, out, _ = sqap_vla("compress", run_directory, "--out", tmp_path / "out")
    assert code == 0 and "no calibration frames: " in out and "GPTQ" in out


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("name: mine\nweights: {bits: 5}\n", "mine.yaml: weights.bits = 5"),
        ("name: mine\nrotation: sideways\n", "mine.yaml: rotation = 'sideways'"),
        ("- a list\n", "mine.yaml: expected a mapping"),
        ("name: {\n", "mine.yaml: cannot be read as YAML"),
    ],
)
def test_an_impossible_recipe_is_refused_before_anything_is_made(
    recipe: str, sentence: str, sqap_vla: SqapVla, run_directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(recipe)
    code, _, error = sqap_vla("compress", run_directory, "--recipe", tmp_path / "mine.yaml", "--out", tmp_path / "out")
    assert code == 2 and error.startswith("sqap-vla: ") and sentence in error
    assert not (tmp_path / "out").exists()


def test_an_unknown_recipe_is_refused_with_those_there_are(sqap_vla: SqapVla, run_directory: Path) -> None:
    code, _, error = sqap_vla("compress", run_directory, "--recipe", "w2a2")
    assert code == 2 and "no w2a2.yaml" in error and "w4a4" in error


def test_a_calibration_bag_without_images_is_refused_before_anything_is_made(
    sqap_vla: SqapVla, run_directory: Path, tmp_path: Path
) -> None:
    bag, out = bag_without_images(tmp_path / "bag"), tmp_path / "out"
    code, _, error = sqap_vla("compress", run_directory, "--calibration", bag, "--out", out)
    assert code == 2 and "holds no camera images to calibrate on; its topics are: /sqap_vla/instruction" in error
    assert not out.exists()


def test_a_checkpoint_that_does_not_exist_is_refused(sqap_vla: SqapVla, tmp_path: Path) -> None:
    code, _, error = sqap_vla("compress", tmp_path / "missing")
    assert code == 2 and "missing: no such run directory or weights file" in error


def test_a_directory_that_is_no_compressed_checkpoint_is_not_inspected(sqap_vla: SqapVla, run_directory: Path) -> None:
    code, _, error = sqap_vla("inspect", run_directory)
    assert code == 2 and "no compressed.json; not a compressed checkpoint, which `sqap-vla compress` makes" in error


def test_a_file_is_not_inspected_and_not_to_be_removed(sqap_vla: SqapVla, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, _, error = sqap_vla("inspect", tmp_path / "notes.txt")
    assert code == 2 and "notes.txt: no compressed.json; not a compressed checkpoint" in error and "remove" not in error


def test_a_random_checkpoint_where_none_can_be_made_is_refused(sqap_vla: SqapVla, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, _, error = sqap_vla("random-checkpoint", tmp_path / "notes.txt" / "run")
    assert code == 2 and "run: Not a directory; give a directory that can be written" in error


def test_fidelity_without_frames_names_its_option(sqap_vla: SqapVla, run_directory: Path, tmp_path: Path) -> None:
    code, _, error = sqap_vla("fidelity", run_directory, tmp_path / "any")
    assert code == 2 and "fidelity: --frames-from" in error


def test_an_unfinished_compression_is_not_inspected(
    sqap_vla: SqapVla, run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sqap_vla_ros.tools.compression.family.head_tensors", stop)
        code, out, _ = sqap_vla("compress", run_directory, "--out", tmp_path / "out")
    assert code == 130 and f"stopped; what is done stays in {tmp_path / 'out'}" in out
    code, _, error = sqap_vla("inspect", tmp_path / "out")
    assert code == 2 and "the compression is unfinished; run the same `sqap-vla compress` again" in error
    code, out, _ = sqap_vla("compress", run_directory, "--out", tmp_path / "out")
    assert code == 0


def test_a_changed_file_is_found_by_verifying(sqap_vla: SqapVla, run_directory: Path, tmp_path: Path) -> None:
    sqap_vla("compress", run_directory, "--recipe", "smoothquant-w8a8", "--out", tmp_path / "out")
    with (tmp_path / "out" / "weights" / "projector.safetensors").open("ab") as file:
        file.write(b"\0")
    assert sqap_vla("inspect", tmp_path / "out")[0] == 0
    code, _, error = sqap_vla("inspect", tmp_path / "out", "--verify")
    assert code == 2 and "projector.safetensors: not the file that was written" in error
