"""Which topics of a bag a replay reads: the configured names where the bag has them, else the only one of its type."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from sqap_vla_ros.bags.reader import Bag, BagDamage, BagError
from sqap_vla_ros.config.names import absolute_name
from sqap_vla_ros.config.robot import Configuration

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
TRANSFORM_TYPE = "tf2_msgs/msg/TFMessage"
STRING_TYPE = "std_msgs/msg/String"
CHUNK_TYPE = "sqap_vla/msg/ActionChunk"
MASK_TYPE = "sqap_vla/msg/TokenMask"
INSTRUCTION = "/sqap_vla/instruction"


@dataclass(frozen=True)
class BagTopics:
    """The topics of a bag that a replay reads; empty strings where the bag has none.

    Attributes:
        image: Camera images (Image or CompressedImage).
        camera_info: The camera's calibration.
        instruction: Instructions to the policy (String).
        chunk: Recorded action chunks.
        token_mask: Recorded token masks.
        transforms: Every topic with transforms of the robot.
    """

    image: str
    camera_info: str
    instruction: str
    chunk: str
    token_mask: str
    transforms: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All topics, for `Bag.messages`."""
        return self.camera_names | {self.instruction, self.chunk, self.token_mask}

    @property
    def camera_names(self) -> frozenset[str]:
        """The topics that say what the camera saw and where it was: images, calibration, transforms."""
        return frozenset((self.image, self.camera_info, *self.transforms))


def find_topics(
    bag: Bag, configuration: Configuration, image: str = "", camera_info: str = "", tf_namespace: str = ""
) -> BagTopics:
    """Choose the topics to read.

    Args:
        bag: The recording.
        configuration: The robot's topics.
        image: Image topic to read in place of the configured one.
        camera_info: Calibration to read in place of the one in the images' namespace.
        tf_namespace: Namespace of the transforms, as "/left" for /left/tf and /left/tf_static.

    Raises:
        BagError: There is no image topic, or there are several of which none is configured; there are transforms in
            several namespaces; or the bag lacks what was asked for.
    """
    found = find_images(bag, configuration, image)
    if camera_info and bag.topic_types.get(camera_info) != CAMERA_INFO_TYPE:
        raise BagError(f"{bag.path}: no CameraInfo topic '{camera_info}'; {_listing(bag, (CAMERA_INFO_TYPE,))}")
    same_namespace = f"{_camera_namespace(found)}/camera_info"
    if not camera_info and same_namespace in bag.topic_types:
        camera_info = same_namespace
    if not camera_info and (len(_with_messages(bag, IMAGE_TYPES)) == 1 or not is_other_camera(configuration, found)):
        camera_info = _pick(bag, (CAMERA_INFO_TYPE,), absolute_name(configuration.topics.camera_info))
    return BagTopics(
        image=found,
        camera_info=camera_info,
        instruction=find_instruction(bag, found),
        chunk=_find_chunks(bag, found),
        token_mask=_beside(found, _of_types(bag, (MASK_TYPE,))) or _pick(bag, (MASK_TYPE,), "/sqap_vla/token_mask"),
        transforms=_transform_topics(bag, tf_namespace, found),
    )


def find_images(bag: Bag, configuration: Configuration, image: str = "") -> str:
    """Choose the image topic; arguments and errors are those of `find_topics`."""
    if image and bag.topic_types.get(image) not in IMAGE_TYPES:
        raise BagError(f"{bag.path}: no image topic '{image}'; {_listing(bag, IMAGE_TYPES)}")
    found = image or _pick(bag, IMAGE_TYPES, absolute_name(configuration.topics.image), "--image-topic")
    if not found:
        raise BagError(f"{bag.path}: holds no camera images (sensor_msgs Image or CompressedImage)")
    if not bag.count(found):
        raise BagError(f"{bag.path}: holds no message of {found}, its images")
    return found


def other_images(bag: Bag, image: str) -> list[str]:
    """The image topics of a bag that are not read; the forms of the same camera's images do not count."""
    return sorted(
        topic
        for topic in _with_messages(bag, IMAGE_TYPES)
        if _camera_namespace(topic) != _camera_namespace(image) and bag.count(topic)
    )


def find_instruction(bag: Bag, image: str = "") -> str:
    """The instruction topic: the node's in the images' namespace, the node's, or the only one; empty: there is none."""
    topics = [topic for topic in _with_messages(bag, (STRING_TYPE,)) if topic.endswith("/instruction")]
    if beside := _beside(image, topics):
        return beside
    return INSTRUCTION if INSTRUCTION in topics else topics[0] if len(topics) == 1 else ""


def first_instruction(bag: Bag) -> str:
    """The first instruction of a bag, from its instruction topic or from a recorded chunk.

    Raises:
        BagError: The bag holds none.
    """
    topic_of_instruction = find_instruction(bag)
    with suppress(BagDamage):
        for topic, _, message in bag.messages({topic_of_instruction, _find_chunks(bag)}):
            return str(message.data if topic == topic_of_instruction else message.instruction)
    raise BagError(f"{bag.path}: holds no instruction; give one with --instruction")


def is_other_camera(configuration: Configuration, image: str) -> bool:
    """Whether images are from another camera than the configured one: the topics of a camera share a namespace."""
    return _camera_namespace(image) != _camera_namespace(absolute_name(configuration.topics.image))


def configured_for(configuration: Configuration, topics: BagTopics, chosen_image: str) -> Configuration:
    """The robot's settings with the topics that are read from a bag.

    Args:
        configuration: The robot's settings.
        topics: The topics that were found in the bag.
        chosen_image: Image topic that was asked for. If it is another camera's, the configured optical frame does not
            apply, and the frame_id of the images is used.
    """
    names = {"image": topics.image, "camera_info": topics.camera_info or configuration.topics.camera_info}
    changed: dict[str, object] = {"topics": configuration.topics.model_copy(update=names)}
    if chosen_image and is_other_camera(configuration, chosen_image):
        changed["frames"] = configuration.frames.model_copy(update={"camera": ""})
    return configuration.model_copy(update=changed)


def _find_chunks(bag: Bag, image: str = "") -> str:
    return _beside(image, _of_types(bag, (CHUNK_TYPE,))) or _pick(bag, (CHUNK_TYPE,), "/sqap_vla/chunk")


def _beside(image: str, topics: list[str]) -> str:
    """The topic of the node in whose namespace the images are, where a bag has those of several nodes."""
    of_nodes = {topic: _namespace(_namespace(topic)) for topic in topics}
    found = [topic for topic, namespace in of_nodes.items() if namespace and image.startswith(f"{namespace}/")]
    return found[0] if len(found) == 1 else ""


def _transform_topics(bag: Bag, wanted: str, image: str) -> tuple[str, ...]:
    """The transforms of one robot: of several, the one without a namespace, or the one that the images belong to."""
    by_namespace: dict[str, list[str]] = {}
    for topic in _of_types(bag, (TRANSFORM_TYPE,)):
        by_namespace.setdefault(_namespace(topic), []).append(topic)
    if wanted:
        wanted = f"/{wanted.strip('/')}".rstrip("/")
    elif len(by_namespace) == 1:
        [wanted] = by_namespace
    elif "" not in by_namespace and by_namespace:
        above = [name for name in by_namespace if image.startswith(f"{name}/")]
        if len(above) != 1:
            names = ", ".join(sorted(by_namespace))
            raise BagError(f"{bag.path}: transforms of several robots; choose with --tf-namespace: {names}")
        [wanted] = above
    if wanted and wanted not in by_namespace:
        names = ", ".join(name or "/" for name in sorted(by_namespace)) or "there are none"
        raise BagError(f"{bag.path}: no transforms in namespace '{wanted}': {names}")
    return tuple(by_namespace.get(wanted, ()))


def _pick(bag: Bag, kinds: tuple[str, ...], preferred: str, option: str = "") -> str:
    """The preferred topic of some types, or the only one; empty if there is none, or several without an option."""
    candidates = _with_messages(bag, kinds)
    if preferred in candidates:
        return preferred
    if len(candidates) > 1 and option:
        names = ", ".join(sorted(candidates))
        raise BagError(f"{bag.path}: several topics fit; choose one with {option}: {names}")
    return candidates[0] if len(candidates) == 1 else ""


def _with_messages(bag: Bag, kinds: Collection[str]) -> list[str]:
    """Topics of some types; one that was recorded without a single message counts only if there is no other."""
    topics = _of_types(bag, kinds)
    return [topic for topic in topics if bag.count(topic)] or topics


def _of_types(bag: Bag, kinds: Collection[str]) -> list[str]:
    return [topic for topic, kind in bag.topic_types.items() if kind in kinds]


def _listing(bag: Bag, kinds: tuple[str, ...]) -> str:
    names = sorted(_of_types(bag, kinds))
    return f"there are: {', '.join(names)}" if names else "there are none"


def _namespace(topic: str) -> str:
    return topic.rpartition("/")[0]


def _camera_namespace(image: str) -> str:
    return _namespace(image.removesuffix("/compressed"))
