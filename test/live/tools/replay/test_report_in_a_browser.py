"""The report of a replay, as a browser shows it."""

from pathlib import Path

import numpy as np
import pytest
from headless_browser import load
from replay_report import PLOTS, ReportPage, write_full_report

from sqap_vla_ros.reporting.video_writer import write_mp4
from sqap_vla_ros.tools.replay.report.page import write_report
from sqap_vla_ros.tools.replay.report.svg import POLICY
from sqap_vla_ros.tools.replay.video import OVERLAY


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = write_full_report(tmp_path_factory.mktemp("report"))
    grey = np.full((64, 64, 3), 100, np.uint8)
    write_mp4(((tick * 10**8, grey) for tick in range(3)), page.parent / OVERLAY)
    return write_report(page.parent)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop", "phone in the dark"])
def test_a_browser_shows_a_report_without_complaint(report: Path, tmp_path: Path, width: int, dark: bool) -> None:
    loaded = load(report, tmp_path, width, dark)
    assert loaded.console == []
    shown = ReportPage(loaded.dom)
    assert shown.plots == PLOTS and OVERLAY in shown.loaded
    background = loaded.picture[5, 5].mean()
    assert background < 60 if dark else background > 200
    blue = [int(POLICY[start : start + 2], 16) for start in (1, 3, 5)]
    assert (abs(loaded.picture.astype(int) - blue).max(axis=2) < 8).sum() > 300


def test_what_a_page_complains_of_would_be_seen(report: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(report.read_text().replace("</body>", '<img src="http://127.0.0.1:9/picture.png"></body>'))
    assert any("Content Security Policy" in line for line in load(broken, tmp_path).console)
