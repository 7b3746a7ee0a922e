"""Reading a recorded bag: which topics matter, and their messages in the order they were recorded.

`rosbags` reads both storages (sqlite3 and MCAP) without ROS; messages stream, nothing is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from sqap_vla_ros.config import Configuration

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
TRANSFORM_TYPE = "tf2_msgs/msg/TFMessage"
STRING_TYPE = "std_msgs/msg/String"
CHUNK_TYPE = "sqap_vla/msg/ActionChunk"
MASK_TYPE = "sqap_vla/msg/TokenMask"


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
    """

    image: str
    camera_info: str
    instruction: str
    chunk: str
    token_mask: str


class Bag:
    """A rosbag2 recording, opened for streaming.

    Args:
        path: A rosbag2 directory, or a bare `.mcap` or `.db3` file.

    Raises:
        BagError: The path is missing or no bag that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Bags of older distributions carry no message definitions: Jazzy's stand in for them.
            self._reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
            self._reader.open()
        except FileNotFoundError as error:
            raise BagError(f"{path}: no bag there: {error}") from None
        except (AnyReaderError, OSError, ValueError, AssertionError, KeyError, TypeError) as error:
            raise BagError(f"{path}: cannot be read as a rosbag2 recording: {error}") from None

    def __enter__(self) -> "Bag":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    @property
    def duration_s(self) -> float:
        """Time between the first and the last message."""
        return self._reader.duration * 1e-9

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

    def find_topics(self, configuration: Configuration, image: str = "") -> BagTopics:
        """Pick the topics to read: the configured names where the bag has them, else the only one of the type.

        Args:
            configuration: The robot's topics.
            image: Image topic to read instead.

        Raises:
            BagError: No image topic, or several of which none is configured.
        """
        wanted = image or configuration.topics.image
        if image and self.topic_types.get(image) not in IMAGE_TYPES:
            raise BagError(f"{self.path}: no image topic '{image}'; {self._listing(IMAGE_TYPES)}")
        found = self._pick(IMAGE_TYPES, wanted, "--image-topic")
        if not found:
            raise BagError(f"{self.path}: holds no camera images (sensor_msgs Image or CompressedImage)")
        beside_image = found.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
        named = configuration.topics.camera_info
        camera_info = beside_image if self.topic_types.get(beside_image) == CAMERA_INFO_TYPE else named
        instructions = [t for t, kind in self.topic_types.items() if kind == STRING_TYPE and t.endswith("/instruction")]
        return BagTopics(
            image=found,
            camera_info=self._pick((CAMERA_INFO_TYPE,), camera_info, ""),
            instruction=instructions[0] if instructions else "",
            chunk=self._pick((CHUNK_TYPE,), "/sqap_vla/chunk", ""),
            token_mask=self._pick((MASK_TYPE,), "/sqap_vla/token_mask", ""),
        )

    def messages(self, topics: BagTopics) -> Iterator[tuple[str, int, Any]]:
        """All messages that matter, as (topic, record time in nanoseconds, message).

        Raises:
            BagDamage: The recording is damaged at the place that is read.
        """
        names = set(vars(topics).values())
        connections: list[Connection] = [
            connection
            for connection in self._reader.connections
            if connection.topic in names or (topics.image and connection.msgtype == TRANSFORM_TYPE)
        ]
        if not connections:  # which rosbags takes for all of them
            return
        try:
            for connection, recorded_ns, raw in self._reader.messages(connections):
                yield connection.topic, recorded_ns, self._reader.deserialize(raw, connection.msgtype)
        except Exception as error:  # damaged bytes make the parser fail in whatever way they happen to
            raise BagDamage(f"{self.path}: damaged, read up to here: {error}") from None

    def first_instruction(self, topics: BagTopics) -> str:
        """What the policy was told first, from the instruction topic or from a recorded chunk.

        Raises:
            BagError: The bag does not say.
        """
        for topic, _, message in self.messages(replace(topics, image="", camera_info="", token_mask="")):
            return str(message.data if topic == topics.instruction else message.instruction)
        raise BagError(f"{self.path}: holds no instruction; give one with --instruction")

    def _pick(self, kinds: tuple[str, ...], preferred: str, option: str) -> str:
        candidates = [topic for topic, kind in self.topic_types.items() if kind in kinds]
        if preferred in candidates:
            return preferred
        if len(candidates) > 1 and option:
            names = ", ".join(sorted(candidates))
            raise BagError(f"{self.path}: several topics fit; choose one with {option}: {names}")
        return candidates[0] if len(candidates) == 1 else ""

    def _listing(self, kinds: tuple[str, ...]) -> str:
        names = sorted(topic for topic, kind in self.topic_types.items() if kind in kinds)
        return f"there are: {', '.join(names)}" if names else "there are none"
