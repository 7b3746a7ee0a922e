"""`sqap-vla simpler`: all the way from the command to the tables, with a stand-in where SIMPLER is imported."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import pytest
from simpler_scenes import Scene, limited

from sqap_vla_ros.cli import main

Command = Callable[..., tuple[int, str, str]]
"""Words after `sqap-vla simpler` -> its exit code, and what it printed to stdout and to stderr."""

FEW = ("--tasks", "drawer", "--settings", "visual_matching", "--episodes", 2)


@pytest.fixture
def simpler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sqap-vla", "simpler", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What environments are built with, by what stands in for SIMPLER."""
    arguments: list[dict[str, Any]] = []

    def build(name: str, **settings: Any) -> gymnasium.Env[Any, Any]:
        arguments.append({"name": name, **settings})
        return limited(Scene(done_at=frozenset({3})), 3)

    builder = ModuleType("simpler_env.utils.env.env_builder")
    builder.__dict__.update(
        build_maniskill2_env=build, get_robot_control_mode=lambda robot, policy: f"control of {robot}"
    )
    assets = ModuleType("mani_skill2_real2sim")
    assets.__dict__["ASSET_DIR"] = tmp_path / "assets"
    for name in ("simpler_env", "simpler_env.utils", "simpler_env.utils.env"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, builder.__name__, builder)
    monkeypatch.setitem(sys.modules, assets.__name__, assets)
    return arguments


def test_the_command_explains_itself(simpler: Command) -> None:
    code, out, _ = simpler("--help")
    assert code == 0 and "Table 1 of SQAP-VLA" in out


def test_without_simpler_one_sentence_says_what_to_install(simpler: Command, simpler_run: Path, tmp_path: Path) -> None:
    code, _, error = simpler(simpler_run, "--out", tmp_path)
    assert code == 2 and "SIMPLER cannot be imported" in error and "https://github.com/simpler-env/SimplerEnv" in error


def test_success_rates_are_printed_and_written(
    simpler: Command, built: list[dict[str, Any]], simpler_run: Path, tmp_path: Path
) -> None:
    code, out, error = simpler(simpler_run, *FEW, "--out", tmp_path / "out")
    assert (code, error) == (0, "")
    assert "drawer" in out and "100.0 (34–100; 2)" in out and "sqap: 2 of 2 succeeded" in out
    assert len(built) == 2
    [row] = json.loads((tmp_path / "out" / "results.json").read_text())
    assert row["tasks"]["drawer"]["count"] == 2 and row["share_without_ring"] == 0.0


def test_environments_are_built_as_simpler_s_own_evaluator_builds_them(
    simpler: Command, built: list[dict[str, Any]], simpler_run: Path, tmp_path: Path
) -> None:
    simpler(simpler_run, *FEW, "--out", tmp_path / "out")
    first = built[0]
    assert first["name"].endswith("DrawerCustomInScene-v0")
    assert Path(first["rgb_overlay_path"]).parent == tmp_path / "assets" / "real_inpainting"
    same = {
        "obs_mode": "rgbd",
        "robot": "google_robot_static",
        "sim_freq": 513,
        "control_freq": 3,
        "control_mode": "control of google_robot_static",
        "max_episode_steps": 113,
        "scene_name": "dummy_drawer",
        "camera_cfgs": {"add_segmentation": True},
        "shader_dir": "rt",
        "station_name": "mk_station_recolor",
    }
    assert {name: first[name] for name in same} == same


def test_the_same_command_again_runs_nothing_twice(
    simpler: Command, built: list[dict[str, Any]], simpler_run: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        code, out, _ = simpler(simpler_run, *FEW, "--out", tmp_path / "out")
    assert code == 0 and len(built) == 2 and "100.0 (34–100; 2)" in out


def test_policies_in_one_directory_share_the_table(
    simpler: Command, built: list[dict[str, Any]], simpler_run: Path, tmp_path: Path
) -> None:
    simpler(simpler_run, *FEW, "--policy", "fp16", "--out", tmp_path / "out")
    _, out, _ = simpler(simpler_run, *FEW, "--policy", "sqap", "--out", tmp_path / "out")
    assert "| fp16@" in out and "| sqap@" in out


def test_an_unknown_task_is_refused_before_anything_is_loaded(simpler: Command, tmp_path: Path) -> None:
    code, _, error = simpler(tmp_path / "missing", "--tasks", "juggle")
    assert code == 2 and "tasks = juggle: those of google_robot are pick_coke_can" in error
