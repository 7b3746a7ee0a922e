"""Reading a recorded bag: which topics matter, and their messages in the order they were recorded.

`rosbags` reads both storages (sqlite3 and MCAP) without ROS; messages stream, nothing is kept. What it refuses because
the recording was interrupted is read from front to back, up to the damage.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any, cast

from backports import zstd
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from sqap_vla_ros.bags.sequential import SequentialStorage, storage_files, unpacked, write_ahead_log
from sqap_vla_ros.config.files import ConfigurationError, read_yaml
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.errors import in_one_line

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
TRANSFORM_TYPE = "tf2_msgs/msg/TFMessage"
STRING_TYPE = "std_msgs/msg/String"
CHUNK_TYPE = "sqap_vla/msg/ActionChunk"
MASK_TYPE = "sqap_vla/msg/TokenMask"
INSTRUCTION = "/sqap_vla/instruction"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class BagError(ValueError):
    """A bag that cannot be used; the message says which, why, and what to do."""


class BagDamage(BagError):
    """The recording ends in the middle: what was read so far is good, nothing comes after it."""


@dataclass(frozen=True)
class BagTopics:
    """The topics of a bag that a replay reads; empty strings where the bag has none.

    Attributes:
        image: Camera images (Image or CompressedImage).
        camera_info: The camera's calibration.
        instruction: What the policy was told (String).
        chunk: Recorded action chunks.
        token_mask: Recorded token masks.
        transforms: Every topic with transforms.
    """

    image: str
    camera_info: str
    instruction: str
    chunk: str
    token_mask: str
    transforms: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset(
            (self.image, self.camera_info, self.instruction, self.chunk, self.token_mask, *self.transforms)
        )


class Bag:
    """A rosbag2 recording, opened for streaming.

    Args:
        path: A rosbag2 directory, or a bare `.mcap` or `.db3` file.

    Raises:
        BagError: The path is missing or no bag that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._interrupted = ""  # why the recording is not whole, even if every message of its files can be read
        self._unpacked: TemporaryDirectory[str] | None = None
        if not path.exists():
            raise BagError(f"{path}: no bag there")
        if path.suffix == ".bag" and path.is_file():
            raise BagError(f"{path}: a ROS 1 bag; convert it to rosbag2 first, with rosbags-convert")
        files = storage_files(path)
        refusal = ""
        try:
            self._reader = _open(path)
            if not files or not _needs_sequential_reading(self._reader, files):
                return
            self._reader.close()
        except KeyError as error:
            # A message definition that the recorder did not know, which harms nothing.
            refusal = _short(error)
        except Exception as error:  # damaged files make the parsers fail in whatever way they happen to
            refusal = _short(error)
            if not _is_closed(path):
                self._interrupted = f"{path}: not a whole recording ({refusal}); read as far as it goes"
        if not files:
            raise BagError(f"{path}: cannot be read as a rosbag2 recording: {refusal}")
        self._unpacked = TemporaryDirectory(prefix="sqap-vla-bag-")
        try:
            files = unpacked(files, Path(self._unpacked.name))
            self._reader = _open(files[0], SequentialStorage(files))
        except Exception as error:
            raise BagError(f"{path}: cannot be read as a rosbag2 recording: {refusal or _short(error)}") from None
        if refusal and not self._reader.connections:
            raise BagError(f"{path}: cannot be read as a rosbag2 recording: {refusal}")

    def __enter__(self) -> "Bag":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        if self._unpacked:
            self._unpacked.cleanup()

    @property
    def duration_s(self) -> float:
        """Time between the first and the last message."""
        return max(0.0, self._reader.duration * 1e-9)  # without messages, the reader's is negative

    @property
    def start_ns(self) -> int:
        """Record time of the first message."""
        return self._reader.start_time

    @property
    def topic_types(self) -> dict[str, str]:
        """Message type of every topic."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    def count(self, topic: str) -> int:
        """How many messages a topic has."""
        return self._reader.topics[topic].msgcount

    def find_topics(
        self, configuration: Configuration, image: str = "", camera_info: str = "", tf_namespace: str = ""
    ) -> BagTopics:
        """Pick the topics to read: the configured names where the bag has them, else the only one of the type.

        Args:
            configuration: The robot's topics.
            image: Image topic to read instead.
            camera_info: Calibration to read instead of the one beside the images.
            tf_namespace: Where the transforms are, as "/left" for /left/tf and /left/tf_static.

        Raises:
            BagError: No image topic, or several of which none is configured; transforms in several namespaces; or the
                bag has not what is asked for.
        """
        found = self.find_images(configuration, image)
        if camera_info and self.topic_types.get(camera_info) != CAMERA_INFO_TYPE:
            raise BagError(f"{self.path}: no CameraInfo topic '{camera_info}'; {self._listing((CAMERA_INFO_TYPE,))}")
        beside_image = f"{_camera_namespace(found)}/camera_info"
        if not camera_info and beside_image in self.topic_types:
            camera_info = beside_image
        if not camera_info and (
            len(self._with_messages(IMAGE_TYPES)) == 1 or not is_other_camera(configuration, found)
        ):
            camera_info = self._pick((CAMERA_INFO_TYPE,), configuration.topics.camera_info, "")
        return BagTopics(
            image=found,
            camera_info=camera_info,
            instruction=self.find_instruction(),
            chunk=self._find_chunks(),
            token_mask=self._pick((MASK_TYPE,), "/sqap_vla/token_mask", ""),
            transforms=self._transform_topics(tf_namespace, found),
        )

    def find_images(self, configuration: Configuration, image: str = "") -> str:
        """The image topic alone; as `find_topics`."""
        if image and self.topic_types.get(image) not in IMAGE_TYPES:
            raise BagError(f"{self.path}: no image topic '{image}'; {self._listing(IMAGE_TYPES)}")
        found = image or self._pick(IMAGE_TYPES, configuration.topics.image, "--image-topic")
        if not found:
            raise BagError(f"{self.path}: holds no camera images (sensor_msgs Image or CompressedImage)")
        if not self.count(found):
            raise BagError(f"{self.path}: holds no message of {found}, its images")
        return found

    def find_instruction(self) -> str:
        """The topic that says what to do: the node's, or the only one; empty: there is none."""
        topics = [topic for topic in self._with_messages((STRING_TYPE,)) if topic.endswith("/instruction")]
        return INSTRUCTION if INSTRUCTION in topics else topics[0] if len(topics) == 1 else ""

    def messages(self, topics: BagTopics) -> Iterator[tuple[str, int, Any]]:
        """All messages that matter, as (topic, record time in nanoseconds, message).

        Raises:
            BagDamage: The recording is damaged at the place that is read.
        """
        return self._read(topics.names)

    def motion_messages(self, topics: BagTopics, gripper_command: str) -> Iterator[tuple[str, int, Any]]:
        """What tells how the tool moved: transforms, recorded chunks, gripper commands; as `messages` gives them."""
        return self._read({topics.chunk, gripper_command, *topics.transforms})

    def _read(self, names: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        connections = [connection for connection in self._reader.connections if connection.topic in names]
        if not connections:  # which rosbags takes for all of them
            return
        try:
            for connection, recorded_ns, raw in self._reader.messages(connections):
                # Compressed one by one, which only metadata.yaml would tell; a message as such begins with 0.
                raw = zstd.decompress(raw) if raw.startswith(_ZSTD_MAGIC) else raw
                yield connection.topic, recorded_ns, self._reader.deserialize(raw, connection.msgtype)
        except Exception as error:  # damaged bytes make the parser fail in whatever way they happen to
            raise BagDamage(f"{self.path}: damaged, read up to here: {_short(error)}") from None
        if self._interrupted:
            raise BagDamage(self._interrupted)

    def first_instruction(self) -> str:
        """What the policy was told first, from the instruction topic or from a recorded chunk.

        Raises:
            BagError: The bag does not say.
        """
        instruction = self.find_instruction()
        with suppress(BagDamage):
            for topic, _, message in self._read({instruction, self._find_chunks()}):
                return str(message.data if topic == instruction else message.instruction)
        raise BagError(f"{self.path}: holds no instruction; give one with --instruction")

    def _find_chunks(self) -> str:
        return self._pick((CHUNK_TYPE,), "/sqap_vla/chunk", "")

    def _transform_topics(self, wanted: str, image: str) -> tuple[str, ...]:
        """Those of one robot: of several, the one without a namespace, or the one that the images are of."""
        by_namespace: dict[str, list[str]] = {}
        for topic in self._of_types((TRANSFORM_TYPE,)):
            by_namespace.setdefault(_namespace(topic), []).append(topic)
        if wanted:
            wanted = f"/{wanted.strip('/')}".rstrip("/")
        elif len(by_namespace) == 1:
            [wanted] = by_namespace
        elif "" not in by_namespace and by_namespace:
            above = [name for name in by_namespace if image.startswith(f"{name}/")]
            if len(above) != 1:
                names = ", ".join(sorted(by_namespace))
                raise BagError(f"{self.path}: transforms of several robots; choose with --tf-namespace: {names}")
            [wanted] = above
        if wanted and wanted not in by_namespace:
            names = ", ".join(name or "/" for name in sorted(by_namespace)) or "there are none"
            raise BagError(f"{self.path}: no transforms in namespace '{wanted}': {names}")
        return tuple(by_namespace.get(wanted, ()))

    def _with_messages(self, kinds: tuple[str, ...]) -> list[str]:
        """Topics of some types; a topic that was listened to and never heard counts only if there is no other."""
        topics = self._of_types(kinds)
        return [topic for topic in topics if self.count(topic)] or topics

    def _of_types(self, kinds: tuple[str, ...]) -> list[str]:
        return [topic for topic, kind in self.topic_types.items() if kind in kinds]

    def _pick(self, kinds: tuple[str, ...], preferred: str, option: str) -> str:
        candidates = self._with_messages(kinds)
        if preferred in candidates:
            return preferred
        if len(candidates) > 1 and option:
            names = ", ".join(sorted(candidates))
            raise BagError(f"{self.path}: several topics fit; choose one with {option}: {names}")
        return candidates[0] if len(candidates) == 1 else ""

    def _listing(self, kinds: tuple[str, ...]) -> str:
        names = sorted(self._of_types(kinds))
        return f"there are: {', '.join(names)}" if names else "there are none"


def _namespace(topic: str) -> str:
    return topic.rpartition("/")[0]


def _camera_namespace(image: str) -> str:
    return _namespace(image.removesuffix("/compressed"))


def is_other_camera(configuration: Configuration, image: str) -> bool:
    """Whether images are of another camera than the configured one: its topics share a namespace."""
    return _camera_namespace(image) != _camera_namespace(configuration.topics.image)


def configured_for(configuration: Configuration, topics: BagTopics, chosen_image: str) -> Configuration:
    """The settings for what is read of a bag.

    Args:
        configuration: The robot's.
        topics: Found in the bag.
        chosen_image: Image topic that was asked for. The optical frame that the robot's settings state is not that of
            another camera, whose images name their own.
    """
    names = {"image": topics.image, "camera_info": topics.camera_info or configuration.topics.camera_info}
    changed: dict[str, object] = {"topics": configuration.topics.model_copy(update=names)}
    if chosen_image and is_other_camera(configuration, chosen_image):
        changed["frames"] = configuration.frames.model_copy(update={"camera": ""})
    return configuration.model_copy(update=changed)


def _open(path: Path, storage: SequentialStorage | None = None) -> AnyReader:
    """Open a directory or a storage file; or what is read from front to back instead."""
    # Bags of older distributions carry no message definitions: Jazzy's stand in for them.
    reader = AnyReader([path], default_typestore=_jazzy())
    if storage:
        cast(list[Reader], reader.readers)[0].storage = storage
    reader.open()
    return reader


@cache
def _jazzy() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


def _is_closed(path: Path) -> bool:
    """Whether the recorder of a directory came to its end, and all files that it wrote are there."""
    try:
        files = read_yaml(path / "metadata.yaml")["rosbag2_bagfile_information"]["relative_file_paths"]
        return all((path / Path(file).name).exists() for file in files)
    except (ConfigurationError, KeyError, TypeError):
        return False


def _needs_sequential_reading(reader: AnyReader, files: list[Path]) -> bool:
    """Whether messages would be missed, or several passes at a time disturb each other."""
    readers = cast(list[Reader], reader.readers)
    storages = [inner for file in readers for inner in getattr(file.storage, "storages", [file.storage])]
    without_index = any(isinstance(storage, McapReader) and not storage.chunks for storage in storages)
    return without_index or any(write_ahead_log(file) for file in files)


def _short(error: Exception) -> str:
    """The error in at most a line: some quote the damaged bytes."""
    return shorten(in_one_line(error).replace("\0", " "), 200)
