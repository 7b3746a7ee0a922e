"""The report of a replay: complete, self-contained, and without anything that is loaded or runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from replay_report import PLOTS, ReportPage, write_full_report
from replayed_runs import write_run, write_runs

from sqap_vla_ros.tools.replay.columns import METRIC_NAMES, METRICS
from sqap_vla_ros.tools.replay.report.page import write_report
from sqap_vla_ros.tools.replay.report.svg import binned
from sqap_vla_ros.tools.replay.results_reader import RunError


def page(path: Path) -> ReportPage:
    """Of a report."""
    return ReportPage(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a bag with pictures, plans half a centimetre beside the truth, and a baseline."""
    return write_full_report(tmp_path_factory.mktemp("report"))


def test_a_report_has_all_plots(report: Path) -> None:
    assert page(report).plots == PLOTS


def test_a_report_without_truth_and_baseline_has_the_others(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ticks=3, baseline=False)
    assert page(write_report(run)).plots == PLOTS - {name for name in PLOTS if name.endswith(("-truth", "-baseline"))}


def test_a_report_of_refusals_alone_says_why(tmp_path: Path) -> None:
    text = write_report(write_run(tmp_path / "run", refused=tuple(range(10)))).read_text()
    assert "no transform &lt;base&gt; -&gt; &lt;tool&gt;" in text


def test_a_report_of_no_ticks_at_all_can_be_read(tmp_path: Path) -> None:
    assert "0</b>" in write_report(write_run(tmp_path / "run", ticks=0)).read_text()


def test_a_report_loads_nothing_and_runs_nothing(report: Path) -> None:
    found = page(report)
    assert all(source.startswith("data:") for source in found.loaded) and "script" not in found.tags
    assert not re.search(r"@import|url\((?!#)", report.read_text())


def test_ids_are_unique(report: Path) -> None:
    ids = page(report).ids
    assert len(set(ids)) == len(ids)


def test_every_link_within_a_report_leads_somewhere(report: Path) -> None:
    found = page(report)
    targets = {link.removeprefix("#") for link in found.links if link.startswith("#")}
    assert targets and targets <= set(found.ids)


def test_the_worst_tick_comes_first_and_with_its_picture(report: Path) -> None:
    first = re.search(r'<article class="card" id="tick-(\d+)">.*?</article>', report.read_text(), re.DOTALL)
    assert first is not None and first[1] == "5"
    assert "10.0 mm from the baseline&#39;s plan (number 1 of the worst)" in first[0] and "data:image/jpeg" in first[0]


def test_text_from_a_bag_is_no_markup(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", name="<script>alert(1)</script>")
    assert "script" not in page(write_report(run)).tags


def test_a_damaged_bag_is_announced(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", damage="bag.mcap: damaged, read up to here")
    assert "bag.mcap: damaged, read up to here" in write_report(run).read_text()


def test_a_report_of_several_bags_lists_them_with_their_reports(tmp_path: Path) -> None:
    write_runs(tmp_path, "kitchen 1", "lab", failed={"broken": "no bag there"})
    found = page(write_report(tmp_path))
    assert {"kitchen%201/report.html", "lab/report.html"} <= set(found.links)
    assert found.plots == {"bags-baseline", "bags-truth", "ring"}
    assert "no bag there" in (tmp_path / "report.html").read_text()


def test_an_interrupted_replay_has_no_report(tmp_path: Path) -> None:
    (tmp_path / "ticks.parquet.partial").write_bytes(b"")
    with pytest.raises(RunError, match="was interrupted"):
        write_report(tmp_path)


def test_a_directory_without_a_replay_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no results of a replay"):
        write_report(tmp_path)


def test_a_long_series_keeps_its_extremes() -> None:
    values = np.zeros(20_000)
    values[7] = 5.0
    times, median, least, largest = binned(np.arange(20_000.0), values)
    assert len(times) < 500 and (median.max(), least.max(), largest.max()) == (0.0, 0.0, 5.0)


def test_every_metric_of_the_results_has_words() -> None:
    assert set(METRIC_NAMES) == set(METRICS)
