"""The views that ship show what there is: every topic in them is one that the recording, or the node, has."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from replay_report import CONFIGURATION
from replayed_runs import write_run
from rosbags.highlevel import AnyReader
from synthetic_bags import T, messages, write_messages

from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.files import config_directory
from sqap_vla_ros.tools.replay.annotate import write_annotated
from sqap_vla_ros.tools.replay.results_reader import Run

VIEWS = config_directory() / "views"
LAYOUTS = sorted(VIEWS.glob("*.foxglove.json"))


def test_there_is_a_view_of_the_annotated_recording_for_either_tool() -> None:
    assert {path.name for path in VIEWS.glob("annotated.*")} == {"annotated.foxglove.json", "annotated.rviz"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Types by topic of the annotated recording of a bag with a robot description."""
    folder = tmp_path_factory.mktemp("views")
    entries = list(messages(1.0))
    description = T["std_msgs/msg/String"](data="<robot name='arm'/>")
    entries.insert(0, (entries[0][0], "/robot_description", description))
    with Bag(write_messages(folder / "bag", entries)) as bag:
        configuration = CONFIGURATION.in_namespace("/")
        topics = find_topics(bag, configuration)
        run = Run(write_run(folder / "run"))
        recording = write_annotated(bag, topics, configuration, run, on_progress=lambda at_ns: None)
    with AnyReader([recording]) as reader:
        return {connection.topic: connection.msgtype for connection in reader.connections}


def panels(node: Any) -> set[str]:
    """Ids in the tree of a layout."""
    return {node} if isinstance(node, str) else panels(node["first"]) | panels(node["second"])


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.name)
def test_a_layout_places_every_panel_that_it_configures(path: Path) -> None:
    layout = json.loads(path.read_text())
    assert panels(layout["layout"]) == set(layout["configById"])


def foxglove_topics(layout: Any) -> set[str]:
    """Topics that the panels of a layout read; a plot's path is a topic with the field after a dot."""
    found: set[str] = set()
    for panel, settings in layout["configById"].items():
        found |= set(settings.get("topics", {}))
        mode = settings.get("imageMode", {})
        found |= {mode[name] for name in ("imageTopic", "calibrationTopic") if name in mode}
        found |= {path["value"].partition(".")[0] for path in settings.get("paths", [])}
        found |= {settings["topicPath"].partition(".")[0]} if panel.startswith("RawMessages!") else set()
    return found


def test_foxglove_shows_only_what_the_annotated_recording_has(recorded: dict[str, str]) -> None:
    topics = foxglove_topics(json.loads((VIEWS / "annotated.foxglove.json").read_text()))
    assert len(topics) >= 5 and topics <= set(recorded)


def test_rviz_shows_only_what_the_annotated_recording_has_with_a_display_of_its_type(recorded: dict[str, str]) -> None:
    view = yaml.safe_load((VIEWS / "annotated.rviz").read_text())
    types = {
        "rviz_default_plugins/RobotModel": "std_msgs/msg/String",
        "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
        "rviz_default_plugins/Image": "sensor_msgs/msg/CompressedImage",
    }
    shown = {
        display["Class"]: (display.get("Topic") or display["Description Topic"])["Value"]
        for display in view["Visualization Manager"]["Displays"]
        if display["Class"] in types
    }
    assert {kind: recorded[topic] for kind, topic in shown.items()} == types


def test_plots_of_the_annotated_view_name_fields_that_the_messages_have() -> None:
    layout = json.loads((VIEWS / "annotated.foxglove.json").read_text())
    fields = (VIEWS.parents[1] / "msg/ActionChunk.msg").read_text()
    paths = [path["value"] for panel in layout["configById"].values() for path in panel.get("paths", [])]
    names = {path.split(".")[1] for path in paths}
    assert names == {"tool_pose", "inference_time"} and all(f" {name}" in fields for name in names)
