"""What the command line says about itself, and the words that all commands share."""

import inspect
import shlex
import sys
from pathlib import Path

import pytest
import tyro
from synthetic_bags import write_bag

import sqap_vla_ros
from sqap_vla_ros.cli import COMMANDS, GROUPS, main
from sqap_vla_ros.cli.directories import result_directory
from sqap_vla_ros.config.files import ConfigurationError

SHARED = {
    "policy": "Name of a file in config/policies, or a path to one",
    "robot: str": "Name of a file in config/robots, or a path to one",
    "checkpoint": "Name in config/checkpoints, run directory, .pt file or Hub id",
    "tokenizer": "Directory of the Llama-2 tokenizer; default: next to the checkpoint.",
    "calibration": "Bags, folders of images or demonstrations, or libero[:SUITE]; ",
    "frames_from": "Bags, folders of images or demonstrations, or libero[:SUITE]; ",
    "instruction": "The task",
    "image_topic": "Camera image topic",
    "tasks": "Names of tasks, as ",
    "ray": "Address of a Ray cluster",
    "device": "Device ",
}
"""How the sentences begin of options that several commands have."""


def ends(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code of a command line that runs nothing, and what it printed to stdout and to stderr."""
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit) as end:
        patched.setattr(sys, "argv", ["sqap-vla", *words])
        main()
    code = end.value.code or 0
    assert isinstance(code, int)
    return code, *capsys.readouterr()


def example(name: str) -> str:
    """The example in a command's docstring."""
    return inspect.cleandoc(COMMANDS[name].load().__doc__ or "").rpartition("Example:\n")[2].strip()


def test_the_help_lists_every_command_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ends(capsys, "--help")
    assert code == 0
    assert [line[:-1] for line in out.splitlines() if line.endswith(":")] == list(GROUPS)
    assert [line.split()[0] for line in out.splitlines() if line.endswith(".") and line.startswith("  ")] == list(
        COMMANDS
    )
    assert max(map(len, out.splitlines())) <= 80


def test_without_a_command_the_help_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = ends(capsys)
    assert (code, out) == (2, "") and error.startswith("usage: sqap-vla")


def test_an_unknown_command_is_a_mistake_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = ends(capsys, "reply")
    assert code == 2 and "'reply'" in error and "sqap-vla --help" in error


def test_an_unknown_option_is_a_mistake_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = ends(capsys, "replay", "bag", "--polcy", "fp16")
    assert code == 2 and "--policy" in error


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(capsys, "--version") == (0, f"sqap-vla {sqap_vla_ros.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_in_80_columns_without_escape_codes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = ends(capsys, name, "--help")
    assert code == 0 and out.startswith(f"usage: sqap-vla {name} ")
    assert max(map(len, out.splitlines()[1:])) <= 80  # the first line, the usage, has no place to break
    assert "\x1b" not in out and "{None}" not in out
    assert example(name) in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_the_first_sentence_of_the_help(name: str) -> None:
    assert COMMANDS[name].summary == (COMMANDS[name].load().__doc__ or "").split("\n")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_a_command_that_is_understood(name: str) -> None:
    program, command, *words = shlex.split(example(name))
    assert (program, command) == ("sqap-vla", name)
    assert isinstance(tyro.cli(COMMANDS[name].load(), args=words), COMMANDS[name].load())


@pytest.mark.parametrize("option", SHARED)
def test_an_option_is_explained_the_same_way_everywhere(option: str) -> None:
    found = 0
    for command in COMMANDS.values():
        _, _, after = inspect.getsource(command.load()).partition(f"\n    {option}")
        if after:
            found += 1
            assert after.partition('"""')[2].startswith(SHARED[option])
    assert found > 0


def test_results_go_to_the_first_free_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert result_directory(None, "demo") == Path("out/demo")
    (tmp_path / "out/demo/bag").mkdir(parents=True)
    (tmp_path / "out/demo-2").write_text("a file")
    (tmp_path / "out/demo-3").mkdir()
    assert result_directory(None, "demo") == Path("out/demo-3")


def test_a_directory_in_use_is_refused_with_a_way_out(tmp_path: Path) -> None:
    assert result_directory(tmp_path, "demo") == tmp_path
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not empty; give another directory, or remove it"):
        result_directory(tmp_path, "demo")


@pytest.mark.parametrize(
    "words",
    [("replay", "BAG", "--out"), ("doctor", "BAG", "--out"), ("demo", "--out"), ("random-checkpoint",)],
    ids=lambda words: words[0],
)
def test_no_command_writes_over_what_is_there(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = write_bag(tmp_path / "bag", seconds=0.1), tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("mine")
    code, _, error = ends(capsys, *[str(bag) if word == "BAG" else word for word in words], str(out))
    assert code == 2 and str(out) in error
    assert [path.name for path in out.iterdir()] == ["report.html"]
