"""The report of a replay: complete, self-contained, and without anything that is loaded or runs."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from replay_report import PLOTS, ReportPage, write_full_report
from replayed_runs import write_run, write_runs

from sqap_vla_ros.tools.replay.columns import METRIC_NAMES, METRICS, bad_tail
from sqap_vla_ros.tools.replay.provenance import provenance
from sqap_vla_ros.tools.replay.report.page import write_report
from sqap_vla_ros.tools.replay.report.svg import POLICY, binned, per_step
from sqap_vla_ros.tools.replay.report.ticks import ticks_to_look_at, worst_ticks
from sqap_vla_ros.tools.replay.results_reader import Run, RunError


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


def test_a_report_loads_nothing_but_the_video_next_to_it_and_runs_nothing(report: Path) -> None:
    assert all(source.startswith("data:") for source in page(report).loaded)
    (report.parent / "overlay.mp4").touch()
    found = page(write_report(report.parent))
    (report.parent / "overlay.mp4").unlink()
    assert {source for source in found.loaded if not source.startswith("data:")} == {"overlay.mp4"}
    assert "video" in found.tags and "script" not in found.tags
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
    assert (
        "10.0 mm from the baseline&#39;s plan (rank 1 of 9 from the worst)" in first[0]
        and "data:image/jpeg" in first[0]
    )


def test_only_ticks_of_the_worst_tenth_are_shown_each_with_its_rank_among_all(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ticks=60, offset_m=0.005)
    ticks = pq.read_table(run / "ticks.parquet")
    column = "baseline_mean_displacement_m"
    apart_m = np.zeros(60)
    apart_m[30:36] = 0.5, 0.1, 0.2, 0.3, 0.4, 0.6  # within a second
    apart_m[10] = 0.05  # the worst elsewhere, yet rank 8 of 60
    apart_m[50] = 0.15  # rank 6
    ticks = ticks.set_column(ticks.schema.get_field_index(column), column, pa.array(apart_m))
    pq.write_table(ticks, run / "ticks.parquet")
    chosen = worst_ticks(Run(run), [column])
    assert chosen == {column: [35, 50]}
    lines = [shown.lines[0] for shown in ticks_to_look_at(Run(run), [35, 50], chosen)]
    assert [line[line.index("(") :] for line in lines] == [
        "(rank 1 of 60 from the worst)",
        "(rank 6 of 60 from the worst)",
    ]


def test_the_bad_tail_is_the_low_end_where_more_is_better() -> None:
    values = {"p5": 0.25, "p95": 1.0}
    assert bad_tail("truth_gripper_agreement", values) == "5 % below 25 %"
    assert bad_tail("truth_mean_displacement_m", {"p5": 0.0, "p95": 0.02}) == "5 % above 20.0 mm"


def test_a_label_of_an_axis_lies_within_its_plot(tmp_path: Path) -> None:
    drawing = per_step("steps", {"policy": (np.full((3, 4), 0.0123), POLICY)}, 0.05)
    label = re.search(r"rotate\(-90 ([\d.]+) [\d.]+\)[^>]*>displacement \[mm\]<", drawing)
    assert label is not None and float(label[1]) > 12  # its baseline; a line is some 9 high


def test_names_date_version_and_machine_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    named = {"policy_name": "sqap · mine · w4a4", "baseline_name": "fp16 · mine · float"}
    (run / "summary.json").write_text(json.dumps({**summary, **named, **provenance("cpu")}))
    text = write_report(run).read_text()
    assert "<h1>sqap · mine · w4a4 on bag</h1>" in text and "compared with fp16 · mine · float" in text
    assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC · sqap_vla \d", text) and f"{os.cpu_count()} cores" in text


def test_the_verdict_stands_at_the_top_of_one_bag_and_of_several(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, name, ticks=60, offset_m=0.001, noise_m=0.002, noise_of="baseline")
    (tmp_path / "summary.json").write_text(json.dumps({"bags": {"a": {}, "b": {}}, "failed": {}}))
    for directory, over in ((tmp_path, "over 120 ticks of 2 bags"), (tmp_path / "a", "over 60 ticks of 1 bag")):
        text = write_report(directory).read_text()
        assert text.index('<p class="verdict pass">PASS: ') < text.index(over) < text.index('class="tiles"')


def test_a_bag_on_which_nothing_was_planned_fails_and_says_why(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "a", ticks=60, offset_m=0.001, noise_m=0.002, noise_of="baseline")
    write_run(tmp_path / "b", "b", refused=tuple(range(10)), noise_m=0.002, noise_of="baseline")
    (tmp_path / "summary.json").write_text(json.dumps({"bags": {"a": {}, "b": {}}, "failed": {}}))
    text = write_report(tmp_path).read_text()
    assert "FAIL: nothing was planned on b" in text
    assert "10 rejected: no transform &lt;base&gt; -&gt; &lt;tool&gt;" in text


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
