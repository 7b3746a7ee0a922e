"""What the node would have planned on: which frames, with which inputs, and what becomes of the others."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_bags import (
    CAMERA_DISTANCE_M,
    FOCAL_PX,
    START_NS,
    WIDTH,
    Entry,
    image,
    messages,
    tool_x_m,
    transforms,
    write_messages,
)

from sqap_vla_ros.bags.observations import Rate, observations, read_extrinsic
from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.bags.topics import find_topics
from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.config.settings import validate
from sqap_vla_ros.core.observation import Observation

CONFIGURATION = validate(Configuration, {"frames.base": "base", "frames.tool": "tool"}, "test")
IMAGE = "/camera/color/image_raw"
SECOND_NS = 10**9


def observed(path: Path, entries: Iterable[Entry], **options: Any) -> list[Observation | tuple[int, str]]:
    """What a replay of these messages plans on."""
    with Bag(write_messages(path, entries)) as bag:
        topics = find_topics(bag, CONFIGURATION)
        return list(observations(bag, topics, CONFIGURATION, on_progress=lambda at_ns: None, **options))


def seconds(outcomes: Iterable[Observation | tuple[int, str]]) -> list[float]:
    """Stamps of what is planned on, since the beginning; refusals are not expected."""
    stamps = []
    for outcome in outcomes:
        assert isinstance(outcome, Observation), outcome
        stamps.append((outcome.stamp_ns - START_NS) * 1e-9)
    return stamps


def at(*times_s: float) -> Any:
    """Stamps of the frames that were exposed 3 ms before these times."""
    return pytest.approx([time_s - 0.003 for time_s in times_s], abs=1e-6)


def test_every_frame_is_planned_on(tmp_path: Path) -> None:
    assert seconds(observed(tmp_path / "bag", messages(0.5))) == at(0.05, 0.15, 0.25, 0.35, 0.45)


def test_a_rate_takes_so_many_frames_per_second(tmp_path: Path) -> None:
    assert seconds(observed(tmp_path / "bag", messages(1.0), rate_hz=5)) == at(0.05, 0.25, 0.45, 0.65, 0.85)


def test_a_rate_above_the_cameras_takes_every_frame(tmp_path: Path) -> None:
    assert len(observed(tmp_path / "bag", messages(1.0), rate_hz=30)) == 10


@given(
    jitter_ms=st.lists(st.floats(-8, 8), min_size=30, max_size=30),
    rate_hz=st.sampled_from([1.0, 3.0, 10.0, 15.0]),
)
def test_a_jittering_camera_gives_the_rate_that_was_asked_for(jitter_ms: list[float], rate_hz: float) -> None:
    rate = Rate(rate_hz)
    stamps = [START_NS + round((frame / 30 + jitter * 1e-3) * 1e9) for frame, jitter in enumerate(jitter_ms)]
    taken = [stamp for stamp in sorted(stamps) if rate.is_due(stamp)]
    span_s = (taken[-1] - taken[0]) * 1e-9
    assert len(taken) - 1 <= (span_s + 0.016) * rate_hz + 1
    assert len(taken) >= rate_hz - 1


def test_a_plan_that_takes_its_time_costs_the_frames_that_come_meanwhile(tmp_path: Path) -> None:
    # The first plan begins 0.05 s in and ends at 0.30 s: the frame of 0.25 s is the newest that is there.
    taken = seconds(observed(tmp_path / "bag", messages(1.0), delay=lambda: 0.25))
    assert taken == at(0.05, 0.25, 0.55, 0.75, 0.95)


def test_a_frame_that_comes_just_after_a_plan_has_ended_is_not_the_one_that_is_acted_on(tmp_path: Path) -> None:
    # The first plan ends at 0.2485 s, the frame of 0.25 s arrives at 0.249 s.
    taken = seconds(observed(tmp_path / "bag", messages(0.5), delay=lambda: 0.1985))
    assert taken == at(0.05, 0.15, 0.35, 0.45)


def test_frames_without_transforms_are_refused_and_the_others_are_not(tmp_path: Path) -> None:
    gap = (START_NS + SECOND_NS // 5, START_NS + 3 * SECOND_NS // 5)
    entries = [entry for entry in messages(1.0) if entry[1] != "/tf" or not gap[0] < entry[0] < gap[1]]
    outcomes = observed(tmp_path / "bag", entries)
    refused = [outcome for outcome in outcomes if not isinstance(outcome, Observation)]
    planned = [outcome for outcome in outcomes if isinstance(outcome, Observation)]
    assert seconds(planned) == at(0.05, 0.15, 0.65, 0.75, 0.85, 0.95)
    assert len(refused) == 4 and all("no transform 'base' -> 'tool'" in reason for _, reason in refused)


def test_a_frame_that_comes_after_a_newer_one_is_refused(tmp_path: Path) -> None:
    late = (START_NS + 200_000_000, IMAGE, image(START_NS + 100_000_000))
    outcomes = observed(tmp_path / "bag", sorted([*messages(0.5), late], key=lambda entry: entry[0]))
    (refused,) = (outcome for outcome in outcomes if not isinstance(outcome, Observation))
    assert refused[0] == START_NS + 100_000_000 and "not newer than the last one used" in refused[1]


def test_a_clock_that_is_set_back_costs_the_frame_that_shows_it(tmp_path: Path) -> None:
    late = [entry for entry in messages(2.0) if entry[0] == START_NS or entry[0] > START_NS + 3 * SECOND_NS // 2]
    again = [(at_ns + 3 * SECOND_NS, topic, message) for at_ns, topic, message in messages(0.5)]
    outcomes = observed(tmp_path / "bag", [*late, *again])
    (refused,) = (outcome for outcome in outcomes if not isinstance(outcome, Observation))
    assert "stamps went back" in refused[1]
    planned = [outcome for outcome in outcomes if isinstance(outcome, Observation)]
    assert seconds(planned) == at(1.55, 1.65, 1.75, 1.85, 1.95, 0.15, 0.25, 0.35, 0.45)


def test_after_a_jump_back_of_recording_time_no_plan_is_waited_for(tmp_path: Path) -> None:
    # Recorded with simulated time, in file order: the plan of the first part would end in the far future.
    first = [(at_ns + 100 * SECOND_NS, topic, message) for at_ns, topic, message in messages(0.06)]
    with Bag(write_messages(tmp_path / "bag", messages(0.5))) as bag:
        topics = find_topics(bag, CONFIGURATION)
        entries = [(topic, at_ns, message) for at_ns, topic, message in [*first, *messages(0.5)]]
        bag.messages = lambda topics: iter(entries)  # type: ignore[method-assign]
        configuration = CONFIGURATION.model_copy(update={"instruction": "pick up the can"})
        outcomes = observations(bag, topics, configuration, delay=lambda: 0.1, on_progress=lambda at_ns: None)
        planned = [outcome for outcome in outcomes if isinstance(outcome, Observation)]
    assert seconds(planned) == at(0.05, 0.15, 0.25, 0.35, 0.45)


def test_the_last_frame_is_not_lost_when_its_transforms_never_come(tmp_path: Path) -> None:
    entries = [entry for entry in messages(0.5) if entry[0] <= START_NS + 449_000_000]
    assert entries[-1][1] == IMAGE
    outcome = observed(tmp_path / "bag", entries)[-1]
    assert not isinstance(outcome, Observation) and "after the last transform" in outcome[1]


def extrinsic_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "extrinsic.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("rotation", ["rpy: [0, 0, 0]", "quaternion: [0, 0, 0, 1]"])
def test_an_extrinsic_places_the_camera_of_a_bag_that_does_not(tmp_path: Path, rotation: str) -> None:
    text = f"{{parent: base, child: camera, xyz: [0, 0, {-CAMERA_DISTANCE_M}], {rotation}}}"
    extrinsic = read_extrinsic(extrinsic_file(tmp_path, text))
    entries = [entry for entry in messages(0.3) if entry[1] != "/tf_static"]
    for outcome in observed(tmp_path / "bag", entries, extrinsic=extrinsic):
        assert isinstance(outcome, Observation) and outcome.tool_px is not None
        expected_u = WIDTH / 2 + FOCAL_PX * tool_x_m(outcome.stamp_ns) / CAMERA_DISTANCE_M
        assert outcome.tool_px[0] == pytest.approx(expected_u, abs=1e-6)


def test_without_an_extrinsic_such_a_bag_has_no_ring_and_says_why(tmp_path: Path) -> None:
    entries = [entry for entry in messages(0.3) if entry[1] != "/tf_static"]
    for outcome in observed(tmp_path / "bag", entries):
        assert isinstance(outcome, Observation) and "frame 'camera' is unknown" in outcome.no_ring_reason


def test_the_bags_own_transforms_are_preferred_to_an_extrinsic(tmp_path: Path) -> None:
    extrinsic = read_extrinsic(
        extrinsic_file(tmp_path, "{parent: base, child: camera, xyz: [5, 5, -5], rpy: [1, 1, 1]}")
    )
    own, given = observed(tmp_path / "a", messages(0.3)), observed(tmp_path / "b", messages(0.3), extrinsic=extrinsic)
    for one, other in zip(own, given, strict=True):
        assert isinstance(one, Observation) and isinstance(other, Observation)
        assert one.tool_px is not None and other.tool_px is not None
        np.testing.assert_array_equal(one.tool_px, other.tool_px)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{parent: base, child: camera, xyz: [0, 0, 1]}", "either as rpy or as quaternion"),
        ("{parent: base, child: camera, xyz: [0, 0, 1], quaternion: [0, 0, 0, 2]}", "must have length 1"),
        ("{parent: base, child: camera, xyz: [0, 0], rpy: [0, 0, 0]}", "xyz"),
        ("{parent: base, xyz: [0, 0, 1], rpy: [0, 0, 0]}", "child"),
        ("{parent: base, child: camera, xyz: [0, 0, .nan], rpy: [0, 0, 0]}", "finite"),
    ],
)
def test_an_extrinsic_that_says_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_extrinsic(extrinsic_file(tmp_path, text))


def test_a_static_transform_that_hangs_below_another_frame_is_the_bags_own_too(tmp_path: Path) -> None:
    mount = (START_NS, "/tf_static", transforms(START_NS, "base", "mount", (0.0, 0.0, -CAMERA_DISTANCE_M)))
    lens = (START_NS, "/tf_static", transforms(START_NS, "mount", "camera", (0.0, 0.0, 0.0)))
    entries = [mount, lens, *(entry for entry in messages(0.3) if entry[1] != "/tf_static")]
    extrinsic = read_extrinsic(
        extrinsic_file(tmp_path, "{parent: base, child: camera, xyz: [9, 9, 9], rpy: [0, 0, 0]}")
    )
    for outcome in observed(tmp_path / "bag", entries, extrinsic=extrinsic):
        assert isinstance(outcome, Observation) and outcome.tool_px is not None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("parent: base\nchild: camera\nxyz: [0, 0, 1]\nrpy: [180, 0, 90]\n", "in radians.*were degrees meant"),
        (
            "parent: base\nchild: camera\ntranslation: [0, 0, 1]\n",
            "xyz missing; expected .* found parent, child, transl",
        ),
        ("", "the file is empty"),
    ],
)
def test_a_camera_pose_that_cannot_be_meant_is_refused(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "extrinsic.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=sentence):
        read_extrinsic(tmp_path / "extrinsic.yaml")
