"""`sqap-vla train`."""

import sys
from pathlib import Path

import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.vlm.checkpoint import open_checkpoint


def test_the_command_trains_and_says_what_comes_next(
    tmp_path: Path, demonstration_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["sqap-vla", "train", str(demonstration_folder), "--out", str(out), "--size", "tiny", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--samples", "4", "--batch", "2", "--tasks", "reach"])
    main()
    assert f"sqap-vla compress {out}" in capsys.readouterr().out.replace("\n", "")
    assert list(open_checkpoint(out).statistics) == ["libero"]


def test_a_folder_without_demonstrations_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(sys, "argv", ["sqap-vla", "train", str(tmp_path), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "no demonstrations" in capsys.readouterr().err
