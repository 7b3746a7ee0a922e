"""What the README and the pages of the documentation say about themselves."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro
from generators import messages, plots
from paths import ROOT

from benchmarks.columns import TABLES
from benchmarks.results import RESULTS
from benchmarks.tables import BEGIN, END, README, cases, fill, main, named_figures, origin, readme, table
from sqap_vla_ros.cli import COMMANDS
from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.simulation.tasks import TASKS

DOCS = ROOT / "docs"
CARD = ROOT / "config" / "checkpoints" / "libero_small" / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
REPOSITORY = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md", CARD]
# Made while the site is built, from the settings, the command line and the messages, or from files of the repository.
GENERATED = {
    "robot-file",
    "policy-file",
    "recipe",
    "command-line",
    "messages",
    "model-card",
    "changelog",
    "contributing",
}
LINK = re.compile(r"\]\(([^)#\s]*)(#[\w.-]+)?\)(?:\{[^}]*\})?")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of results, and a README of its own."""
    (tmp_path / "README.md").write_text(f"above\n{BEGIN}{END}\nbelow\n")
    (tmp_path / "summary.md").write_text("{{ soak.ticks | .0f }} ticks\n")
    monkeypatch.setattr("benchmarks.tables.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.tables.README", tmp_path / "README.md")
    monkeypatch.setattr("benchmarks.tables.SUMMARY", tmp_path / "summary.md")
    return tmp_path


def write(folder: Path, name: str, figures: dict[str, float], **more: Any) -> None:
    source = {"command": f"python -m benchmarks.{name}", "date": "2026-11-28", "machine": "a machine"}
    (folder / f"{name}.json").write_text(json.dumps({**source, "figures": figures, **more}))


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as the site makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading)).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", text) for text in words}


def test_the_readme_fits_on_three_screens() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_figures_of_the_readme_are_those_of_the_results() -> None:
    assert README.read_text(encoding="utf-8") == readme()


@pytest.mark.parametrize("page", [*REPOSITORY, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:")) or "plots/" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists():
            assert path.is_relative_to(DOCS) and path.stem in GENERATED, f"{target} does not exist"
        elif anchor and path.suffix == ".md":
            assert anchor[1:] in anchors(path), f"{target} has no heading {anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_figure_that_a_page_names_exists(page: Path) -> None:
    text = fill(page.read_text(encoding="utf-8"))
    assert all(place.startswith("cause ") for place in re.findall(r"\{\{ *([^}]*?) *\}\}", text))


def test_every_figure_that_was_measured_is_on_a_page() -> None:
    shown = set().union(*(named_figures(page.read_text(encoding="utf-8")) for page in PAGES))
    for path in RESULTS.glob("*.json"):
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
        assert {(path.stem, name) for name in figures} <= shown


def test_the_model_card_has_the_measured_success() -> None:
    figures = json.loads((RESULTS / "closed_loop.json").read_text(encoding="utf-8"))["figures"]
    card = CARD.read_text(encoding="utf-8")
    for row in ("fp16", "sqap"):
        value, low, high, episodes = (
            round(figures[name.format(row)])
            for name in ("success_{}", "success_{}_low", "success_{}_high", "played_{}")
        )
        assert f"| {value} | {low} to {high} | {episodes} |" in card


@pytest.mark.parametrize("page", [*REPOSITORY, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_can_be_given(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"^ *```bash\n.*?```", text, re.MULTILINE | re.DOTALL))
    for line in re.findall(r"^ *(?:\S*/)?sqap-vla (\w.*)$", blocks, re.MULTILINE):
        name, *words = shlex.split(line, comments=True)
        tyro.cli(COMMANDS[name].load(), args=words)  # exits where it cannot


@pytest.mark.parametrize("path", messages.interfaces(), ids=lambda path: path.stem)
def test_every_field_of_a_message_has_a_meaning(path: Path) -> None:
    rows = [line.split(" | ") for line in messages.interface(path).splitlines() if line.startswith("| `")]
    assert rows and not [row[0] for row in rows if not row[3].removesuffix("|").strip()]


def test_troubleshooting_has_a_row_for_every_cause() -> None:
    text = (DOCS / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \{\{ cause (\w+) \}\} \| \S", text, re.MULTILINE) == [cause.value for cause in Cause]


def test_a_readme_of_other_results_is_found_out(results: Path) -> None:
    write(results, "soak", {"ticks": 7})
    main()
    assert (results / "README.md").read_text() == f"above\n{BEGIN}\n7 ticks\n{END}\nbelow\n"
    main(check=True)
    write(results, "soak", {"ticks": 8})
    with pytest.raises(SystemExit, match="out of date"):
        main(check=True)


def test_a_figure_that_does_not_exist_is_an_error(results: Path) -> None:
    write(results, "soak", {"ticks": 7})
    for text in ("{{ soak.tick | .0f }}", "{{ other.ticks | .0f }}", "{{ table other }}"):
        with pytest.raises((ValueError, KeyError)):
            fill(text)


def test_rows_that_were_measured_apart_have_one_command_and_their_own_dates(results: Path) -> None:
    measured = {"fp16": "c0, 2026-11-22", "random": "c1, 2026-11-28", "fastv": "c1, 2026-11-28"}
    command = "python -m benchmarks.closed_loop --rows random fastv"
    write(results, "closed_loop", {"success_fp16": 90}, command=command, measured=measured)
    expected = (
        "`python -m benchmarks.closed_loop`; float, all tokens (`fp16`): c0, 2026-11-22; the others: c1, 2026-11-28"
    )
    assert origin("closed_loop") == f"{expected}; a machine."


def test_a_column_without_a_figure_is_left_out_and_an_interval_is_one_cell(results: Path) -> None:
    figures = {"success_fp16": 90, "success_fp16_low": 80, "success_fp16_high": 95, "task_pick_can_fp16": 81}
    write(results, "closed_loop", figures)
    lines = table("closed_loop").splitlines()
    assert lines[0] == "| policy and weights | success, % | 95 % interval | pick can, % |"
    assert lines[2] == "| float, all tokens (`fp16`) | 90.0 | 80.0 to 95.0 | 81 |"


def test_the_table_of_results_has_a_column_for_every_task() -> None:
    assert all(f"task_{task}_*" in TABLES["closed_loop"].columns for task in TASKS)


def test_every_row_that_was_measured_is_drawn(results: Path) -> None:
    figures = {f"success_{row}{end}": 50.0 for row in ("fp16", "sqap") for end in ("", "_low", "_high")}
    write(results, "closed_loop", figures | {"played_sqap": 25})
    (axes,) = plots.success("closed_loop").axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["float, all tokens (fp16)", "both (pruning + W4A4): sqap on w4a4-residual (25)"]


def test_cases_have_units_in_their_headings(results: Path) -> None:
    write(results, "faults", {}, cases=[{"fault": "camera stops", "hold_ms": 2, "rest_s": None}])
    assert cases("faults").splitlines()[::2] == ["| fault | hold, ms | rest, s |", "| camera stops | 2 |  |"]
