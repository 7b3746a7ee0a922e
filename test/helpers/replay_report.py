"""A report of a replay that has every plot, and what is in its page."""

from html.parser import HTMLParser
from pathlib import Path

from replayed_runs import write_run
from synthetic_bags import write_bag

from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.tools.replay.annotate import write_annotated
from sqap_vla_ros.tools.replay.report.page import write_report
from sqap_vla_ros.tools.replay.results_reader import Run

CONFIGURATION = validate(Configuration, {"frames.base": "base", "frames.tool": "tool"}, "test")
PLOTS = {
    "displacement-baseline",
    "steps-baseline",
    "displacement-truth",
    "steps-truth",
    "motion",
    "latency",
    "kept-by-reason",
    "kept-tokens",
    "ring",
}


class ReportPage(HTMLParser):
    """Names of plots, anchors, links, and where everything that a browser would load comes from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.plots: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "data-plot":
                self.plots.add(value or "")
            elif name == "id":
                self.ids.append(value or "")
            elif name in ("href", "xlink:href") and tag != "link":
                self.links.append(value or "")
            elif name in ("src", "href"):
                self.loaded.append(value or "")


def write_full_report(folder: Path) -> Path:
    """Write the report of a bag with pictures, plans half a centimetre beside the truth, and a baseline."""
    run = write_run(folder / "run", offset_m=0.005, refused=(2,))
    with Bag(write_bag(folder / "bag")) as bag:
        topics = find_topics(bag, CONFIGURATION)
        write_annotated(bag, topics, CONFIGURATION, Run(run), on_progress=lambda at_ns: None)
    return write_report(run)
