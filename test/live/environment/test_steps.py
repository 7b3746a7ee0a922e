from pathlib import Path

import pytest
from steps import SetUpError, Steps, clean_environment, fingerprint


def nothing() -> None:
    pass


def test_a_step_runs_once_for_the_same_inputs(tmp_path):
    runs = []
    for _ in range(2):
        Steps(tmp_path).step("packages", "packages", "key", lambda: runs.append(1))
    assert runs == [1]


def test_a_step_runs_again_when_its_inputs_change(tmp_path):
    steps = Steps(tmp_path)
    steps.step("packages", "packages", "key", nothing)
    assert not steps.due("packages", "key")
    assert steps.due("packages", "another key")


def test_a_step_that_fails_is_due_again(tmp_path):
    steps = Steps(tmp_path)

    def fail() -> None:
        raise SetUpError("no network")

    with pytest.raises(SetUpError):
        steps.step("packages", "packages", "key", fail)
    assert steps.due("packages", "key")


def test_a_failed_command_shows_its_last_lines_and_what_to_do(tmp_path):
    command = ["sh", "-c", "echo first; seq 1000; echo the cause >&2; exit 3"]
    with pytest.raises(SetUpError) as failure:
        Steps(tmp_path).run(command, {"PATH": "/usr/bin:/bin"}, "Plug in the cable.")
    message = str(failure.value)
    assert "the cause" in message
    assert "Plug in the cable." in message
    assert "first\n" not in message
    assert "first\n" in (tmp_path / "set-up.log").read_text()


def test_a_fingerprint_sees_a_changed_and_a_renamed_file(tmp_path):
    message = tmp_path / "A.msg"
    message.write_text("uint8 a")
    before = fingerprint(tmp_path)
    message.write_text("uint8 b")
    changed = fingerprint(tmp_path)
    message.rename(tmp_path / "B.msg")
    assert len({before, changed, fingerprint(tmp_path)}) == 3


def test_commands_of_the_set_up_see_no_other_ros(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/opt/ros/jazzy/lib/python3.12/site-packages")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    assert not {"PYTHONPATH", "AMENT_PREFIX_PATH"} & clean_environment().keys()
    assert Path(clean_environment()["HOME"]) == Path.home()
