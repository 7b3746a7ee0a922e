"""Calibration frames: which images are taken, what instruction goes with them, and the sources that are refused."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sqap_vla_ros.bags.reader import BagError
from sqap_vla_ros.core.errors import is_ours
from sqap_vla_ros.tools.compression.calibration import CalibrationError, CalibrationFrames, read_frames

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types
START_NS = 1_700_000_000_000_000_000
CAMERA = "/camera/color/image_raw"
INSTRUCTION = "/sqap_vla/instruction"


def grey(level: int) -> NDArray[np.uint8]:
    return np.full((12, 16, 3), level, np.uint8)


def header(at_ns: int) -> Any:
    time = T["builtin_interfaces/msg/Time"](sec=at_ns // 10**9, nanosec=at_ns % 10**9)
    return T["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def raw(at_ns: int, level: int, encoding: str = "rgb8") -> object:
    return T["sensor_msgs/msg/Image"](
        header=header(at_ns),
        height=12,
        width=16,
        encoding=encoding,
        is_bigendian=0,
        step=48,
        data=grey(level).reshape(-1),
    )


def compressed(at_ns: int, level: int) -> object:
    data = cv2.imencode(".png", grey(level))[1].reshape(-1)
    return T["sensor_msgs/msg/CompressedImage"](header=header(at_ns), format="png", data=data)


def told(text: str) -> object:
    return T["std_msgs/msg/String"](data=text)


def write_bag(
    path: Path, messages: Iterable[tuple[int, str, object]], storage: StoragePlugin = StoragePlugin.MCAP
) -> str:
    """A bag of (milliseconds after its start, topic, message)."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections: dict[str, object] = {}
        for at_ms, topic, message in messages:
            kind = message.__msgtype__  # type: ignore[attr-defined]
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            serialised = STORE.serialize_cdr(message, kind)
            writer.write(connections[topic], START_NS + at_ms * 10**6, serialised)  # type: ignore[arg-type]
    return str(path)


def recording(images: int) -> list[tuple[int, str, object]]:
    """Ten images a second, as bright as their number, and one instruction."""
    first = (0, INSTRUCTION, told("pick up the can"))
    return [first, *((100 * k + 50, CAMERA, raw(START_NS + 100 * k * 10**6, k % 256)) for k in range(images))]


def write_pictures(path: Path, levels: Iterable[int], suffix: str = "png") -> str:
    path.mkdir()
    for level in levels:
        cv2.imwrite(str(path / f"{level:03d}.{suffix}"), grey(level))
    return str(path)


def levels(frames: CalibrationFrames) -> list[int]:
    return [int(frame.image[0, 0, 0]) for frame in frames.frames]


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def test_images_of_a_bag_are_spread_evenly_over_it(tmp_path: Path, storage: StoragePlugin) -> None:
    frames = read_frames([write_bag(tmp_path / "bag", recording(40), storage)], 4)
    assert levels(frames) == [5, 15, 25, 35]
    assert all(frame.image.shape == (12, 16, 3) for frame in frames.frames)
    assert {frame.instruction for frame in frames.frames} == {"pick up the can"}
    assert frames.notes == ()


@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
def test_a_bare_storage_file_is_a_bag_too(tmp_path: Path, suffix: str) -> None:
    storage = StoragePlugin.MCAP if suffix == ".mcap" else StoragePlugin.SQLITE3
    write_bag(tmp_path / "bag", recording(6), storage)
    (file,) = (tmp_path / "bag").glob(f"*{suffix}")
    assert levels(read_frames([str(file)], 2)) == [1, 4]


def test_compressed_images_are_read(tmp_path: Path) -> None:
    messages = [(k, "/camera/compressed", compressed(START_NS + k * 10**6, k)) for k in range(4)]
    bag = write_bag(tmp_path / "bag", messages)
    assert levels(read_frames([bag], 2, "open the drawer")) == [1, 3]


def test_a_frame_has_the_instruction_that_was_in_force(tmp_path: Path) -> None:
    changes = [(120, INSTRUCTION, told("open the drawer")), (220, INSTRUCTION, told(" "))]
    messages = sorted([*recording(4)[1:], *changes], key=lambda message: message[0])
    frames = read_frames([write_bag(tmp_path / "bag", messages)], 4)
    assert [frame.instruction for frame in frames.frames] == ["open the drawer"] * 4
    messages = sorted([*recording(4), *changes], key=lambda message: message[0])
    frames = read_frames([write_bag(tmp_path / "told before", messages)], 4)
    assert [frame.instruction for frame in frames.frames] == ["pick up the can"] + 3 * ["open the drawer"]


def test_an_instruction_that_is_given_replaces_the_bags(tmp_path: Path) -> None:
    frames = read_frames([write_bag(tmp_path / "bag", recording(3))], 3, "open the drawer")
    assert {frame.instruction for frame in frames.frames} == {"open the drawer"}


def test_a_bag_with_fewer_images_than_asked_for_gives_all_of_them_with_a_note(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", recording(3))
    frames = read_frames([bag], 8)
    assert levels(frames) == [0, 1, 2]
    assert frames.notes == (f"{bag}: 3 calibration frames instead of 8",)


def test_an_image_that_cannot_be_decoded_is_replaced_by_the_next(tmp_path: Path) -> None:
    messages = recording(8)
    messages[3] = (messages[3][0], CAMERA, raw(START_NS, 2, encoding="32FC1"))
    frames = read_frames([write_bag(tmp_path / "bag", messages)], 2)
    assert levels(frames) == [3, 6]
    assert len(frames.notes) == 1 and "1 images could not be used, the first because: image encoding" in frames.notes[0]


def test_a_bag_that_is_damaged_in_the_middle_gives_what_comes_before(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", recording(4000))
    (file,) = (tmp_path / "bag").glob("*.mcap")
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 5000] = b"\xff" * 5000
    file.write_bytes(content)
    frames = read_frames([bag], 40)
    assert 0 < len(frames.frames) < 40
    assert "damaged, read up to here" in frames.notes[0]


def test_one_of_several_cameras_is_chosen_by_its_topic(tmp_path: Path) -> None:
    messages = [(0, "/left/image", raw(START_NS, 10)), (1, "/right/image", raw(START_NS, 20))]
    bag = write_bag(tmp_path / "bag", messages)
    assert levels(read_frames([bag], 1, "wait", image_topic="/right/image")) == [20]
    with pytest.raises(BagError, match="choose one with --image-topic: /left/image, /right/image"):
        read_frames([bag], 1, "wait")


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG"])
def test_pictures_of_a_folder_are_spread_evenly_in_the_order_of_their_names(tmp_path: Path, suffix: str) -> None:
    folder = write_pictures(tmp_path / "pictures", range(0, 60, 10), suffix)
    (tmp_path / "pictures" / "readme.txt").write_text("no picture")
    frames = read_frames([folder], 3, "open the drawer")
    assert levels(frames) == [10, 30, 50]
    assert {frame.instruction for frame in frames.frames} == {"open the drawer"}


def test_pictures_are_red_green_blue(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    cv2.imwrite(str(tmp_path / "pictures" / "red.png"), red[..., ::-1])
    (frame,) = read_frames([str(tmp_path / "pictures")], 1, "wait").frames
    np.testing.assert_array_equal(frame.image, red)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", [1, 2])
    (tmp_path / "pictures" / "000.png").write_bytes(b"not a png")
    frames = read_frames([folder], 3, "wait")
    assert levels(frames) == [1, 2]
    assert "000.png: compressed image is neither JPEG nor PNG" in frames.notes[0]


def test_several_sources_share_the_frames(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", recording(10))
    folder = write_pictures(tmp_path / "pictures", range(100, 110))
    frames = read_frames([bag, folder], 5, "wait")
    assert frames.sources == (bag, folder)
    assert levels(frames) == [2, 7, 101, 105, 108]


def test_the_hash_is_of_pixels_and_instructions_alone(tmp_path: Path) -> None:
    here, there = write_pictures(tmp_path / "here", [1, 2]), write_pictures(tmp_path / "there", [1, 2])
    other = write_pictures(tmp_path / "other", [1, 3])
    frames = read_frames([here], 2, "wait")
    assert read_frames([there], 2, "wait").sha256 == frames.sha256
    assert read_frames([other], 2, "wait").sha256 != frames.sha256
    assert read_frames([here], 2, "go").sha256 != frames.sha256
    assert len(frames.sha256) == 64


def test_a_source_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CalibrationError, match="missing: no such calibration source; expected a bag, a folder"
    ) as error:
        read_frames([str(tmp_path / "missing")], 1, "wait")
    assert is_ours(error.value)


def test_a_bag_without_images_is_refused_with_the_topics_that_it_has(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", recording(0))
    with pytest.raises(CalibrationError, match=f"holds no camera images .*; its topics are: {INSTRUCTION}"):
        read_frames([bag], 1)


def test_a_bag_whose_images_cannot_be_decoded_is_refused_with_the_reason(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [(0, CAMERA, raw(START_NS, 2, encoding="32FC1"))])
    with pytest.raises(CalibrationError, match="holds no image that can be used .*'32FC1' is not supported"):
        read_frames([bag], 1, "wait")


def test_a_bag_without_instruction_needs_one(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", recording(3)[1:])
    with pytest.raises(BagError, match="holds no instruction; give one with --instruction"):
        read_frames([bag], 1)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="holds neither pictures .* nor a rosbag2 recording"):
        read_frames([write_pictures(tmp_path / "empty", [])], 1, "wait")


def test_pictures_need_an_instruction(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="do not say what to do; give an instruction with --instruction"):
        read_frames([write_pictures(tmp_path / "pictures", [1])], 1, " ")


def test_a_file_that_is_no_bag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no bag")
    with pytest.raises(BagError, match="cannot be read as a rosbag2 recording"):
        read_frames([str(tmp_path / "notes.txt")], 1, "wait")


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_every_source_needs_a_share(count: int) -> None:
    with pytest.raises(
        CalibrationError, match=f"--frames {count}: expected at least one from each source; there are 2"
    ):
        read_frames(["one", "two"], count, "wait")


def test_no_source_is_refused() -> None:
    with pytest.raises(CalibrationError, match="no calibration frames; name a bag, .*fidelity: --frames-from"):
        read_frames([], 4, "wait")


def test_without_the_simulator_its_frames_are_refused_and_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqap_vla_ros.simulation.libero", None)
    with pytest.raises(CalibrationError, match=r"need the optional extra \[sim\]"):
        read_frames(["libero"], 1)
