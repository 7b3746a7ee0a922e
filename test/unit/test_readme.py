"""What the README and the page of figures say about themselves."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.readme import BEGIN, END, GRIDS, MEANINGS, OTHERS, README, main, pages
from sqap_vla_ros.simulation.tasks import TASKS

PAGES = (README, OTHERS)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of results, and pages of their own."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"above\n{BEGIN}{END}\nbelow\n")
    monkeypatch.setattr("benchmarks.readme.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.readme.README", tmp_path / "README.md")
    monkeypatch.setattr("benchmarks.readme.OTHERS", tmp_path / "docs" / "figures.md")
    return tmp_path


def write(folder: Path, name: str, figures: dict[str, float], **more: Any) -> None:
    origin = {"command": f"python -m benchmarks.{name}", "date": "2026-11-28", "machine": "a machine"}
    (folder / f"{name}.json").write_text(json.dumps({**origin, "figures": figures, **more}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_results(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == pages()[page]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#(\w+))?\)", page.read_text(encoding="utf-8"))
    assert targets and all((page.parent / target).exists() for target, _ in targets)
    headings = OTHERS.read_text(encoding="utf-8").splitlines()
    assert all(f"## {place}" in headings for target, place in targets if target == "docs/figures.md" and place)


def test_a_figure_stands_on_one_page_in_words(results: Path) -> None:
    write(results, "soak", {"ticks": 7})
    write(results, "cpu_speed", {"selection_ms": 0.5})
    main()
    readme, others = ((results / name).read_text() for name in ("README.md", "docs/figures.md"))
    assert MEANINGS["soak"]["ticks"][0] in others and MEANINGS["soak"]["ticks"][0] not in readme
    assert MEANINGS["cpu_speed"]["selection_ms"][0] in readme and "selection" not in others
    assert readme.startswith("above\n") and readme.endswith("\nbelow\n")


def test_pages_of_other_results_are_found_out(results: Path) -> None:
    write(results, "soak", {"ticks": 7})
    main()
    main(check=True)
    write(results, "soak", {"ticks": 8})
    with pytest.raises(SystemExit, match="figures.md are out of date"):
        main(check=True)


def test_rows_that_were_measured_apart_have_one_command_and_their_own_dates(results: Path) -> None:
    measured = {"fp16": "c0, 2026-11-22", "random": "c1, 2026-11-28", "fastv": "c1, 2026-11-28"}
    command = "python -m benchmarks.closed_loop --rows random fastv"
    write(results, "closed_loop", {"success_fp16": 90}, command=command, measured=measured)
    text = pages()[results / "README.md"]
    assert "`python -m benchmarks.closed_loop`; `fp16`: c0, 2026-11-22; the others: c1, 2026-11-28; a machine." in text


def test_a_column_without_a_figure_is_left_out(results: Path) -> None:
    write(results, "closed_loop", {"success_fp16": 90, "task_pick_can_fp16": 80})
    text = pages()[results / "README.md"]
    assert "| row | success | pick can |\n| --- | --- | --- |\n| fp16 | 90.0 % | 80 % |" in text


def test_only_disturbances_that_were_played_are_described(results: Path) -> None:
    write(results, "robustness", {"success_fp16_none": 90, "success_fp16_delay_0.1": 80})
    text = pages()[results / "README.md"]
    assert "delay from image to command" in text and "pixel noise" not in text


def test_the_readme_has_a_column_for_every_task() -> None:
    assert all(f"task_{task}_*" in GRIDS["closed_loop"][1] for task in TASKS)
