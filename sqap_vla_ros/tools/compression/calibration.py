"""Calibration frames: images like those that the policy will see, from bags, folders of images or the simulator.

Frames are spread evenly over each source, because neighbours in a recording are nearly the same. Only the chosen frames
are decoded.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.demonstrations import Demonstration
from sqap_vla_ros.bags.lerobot import find_episode
from sqap_vla_ros.bags.reader import Bag, BagDamage
from sqap_vla_ros.bags.topics import IMAGE_TYPES, find_images, find_instruction, first_instruction
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.perception.images import ImageError, decode, decode_picture

Candidate = tuple[Callable[[], NDArray[np.uint8]], str]
"""A frame that may be chosen: a function that decodes its image or raises ImageError, and the instruction."""

_SIMULATOR = "libero"
_SUITE = "libero_object"  # the simulated cell's
_PICTURES = (".jpeg", ".jpg", ".png")
_STORAGES = (".db3", ".mcap")
_GOLDEN_RATIO = 0.6180339887  # its multiples fill an interval evenly, however many there are


class CalibrationError(ValueError):
    """A source without usable calibration frames; the message says why, and what to do."""


@dataclass(frozen=True)
class CalibrationFrame:
    """One policy input.

    Attributes:
        image: uint8 (height, width, 3), RGB.
        instruction: Task in plain words; never empty.
        further: Images of the other cameras, in the policy's order.
        state: float64 (numbers,), the robot's state, as in `core.observation`; None: not known.
    """

    image: NDArray[np.uint8]
    instruction: str
    further: tuple[NDArray[np.uint8], ...] = ()
    state: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class CalibrationFrames:
    """The frames of one calibration.

    Attributes:
        sources: Sources as the user named them.
        frames: Frames in the order of the sources.
        notes: Sentences about what differs from what was asked for.
    """

    sources: tuple[str, ...]
    frames: tuple[CalibrationFrame, ...]
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash over all pixels and instructions, in hexadecimal: the same frames in the same order, the same hash."""
        digest = hashlib.sha256()
        for frame in self.frames:
            digest.update(f"{frame.image.shape} {len(frame.instruction.encode())} {frame.instruction}".encode())
            digest.update(np.ascontiguousarray(frame.image).data)
            for image in frame.further:
                digest.update(f"{image.shape}".encode())
                digest.update(np.ascontiguousarray(image).data)
            if frame.state is not None:
                digest.update(frame.state.tobytes())
        return digest.hexdigest()


def read_frames(sources: Sequence[str], count: int, instruction: str = "", image_topic: str = "") -> CalibrationFrames:
    """Collect frames, equally many from each source.

    Args:
        sources: Each a rosbag2 directory, a bare `.mcap` or `.db3` file, a LeRobot data set or one of its episodes
            (`DATASET/episode_000003`), a folder of pictures (png or jpg), a folder of demonstrations (at all stages of
            their tasks), `libero` or `libero:SUITE` (initial states of a LIBERO suite's tasks); the latter two come
            with the tasks' instructions.
        count: Number of frames in all. A source with fewer than its share gives all that it has, and a note says so.
        instruction: Instruction for bags and folders; empty: the one on the bag's instruction topic.
        image_topic: Image topic of bags with several cameras; empty: the default topic, or the only one.

    Raises:
        CalibrationError: A source does not exist, has no usable image, or there is no instruction for it.
        BagError: A bag cannot be read, or has several image topics.
    """
    if not sources:
        raise CalibrationError(
            "no calibration frames; name a bag, a folder of pictures or demonstrations, or 'libero' (compress: "
            "--calibration, fidelity: --frames-from)"
        )
    if count < len(sources):
        raise CalibrationError(f"--frames {count}: expected at least one from each source; there are {len(sources)}")
    frames: list[CalibrationFrame] = []
    notes: list[str] = []
    for index, source in enumerate(sources):
        share = (index + 1) * count // len(sources) - index * count // len(sources)
        remarks: list[str] = []
        found = _read(source, share, instruction.strip(), image_topic, remarks)
        if not found:
            raise CalibrationError(
                "; ".join((f"{source}: holds no image that can be used with an instruction", *remarks))
            )
        if len(found) < share:
            remarks.append(f"{len(found)} calibration frames instead of {share}")
        frames += found
        notes += (f"{source}: {remark}" for remark in remarks)
    return CalibrationFrames(tuple(sources), tuple(frames), tuple(notes))


def _read(source: str, count: int, instruction: str, image_topic: str, remarks: list[str]) -> list[CalibrationFrame]:
    name, _, suite = source.partition(":")
    if name == _SIMULATOR:
        return _simulated(suite or _SUITE, count)
    path = Path(source)
    if not path.exists() and not find_episode(path):
        raise CalibrationError(
            f"{source}: no such calibration source; expected a bag, a folder of pictures or demonstrations, 'libero' "
            "or 'libero:SUITE'"
        )
    if (
        path.is_file()
        or find_episode(path)
        or any(entry.name == "metadata.yaml" or entry.suffix in _STORAGES for entry in path.iterdir())
    ):
        return _recorded(path, count, instruction, image_topic, remarks)
    if demonstrations := sorted(path.rglob("*.safetensors")):
        return _demonstrated(demonstrations, count)
    return _pictures(path, count, instruction, remarks)


def _spread(candidates: Iterable[Candidate], available: int, count: int, remarks: list[str]) -> list[CalibrationFrame]:
    """Decode `count` of the candidates, evenly spread; the next one takes the place of one that cannot be used."""
    frames: list[CalibrationFrame] = []
    refused: list[str] = []
    for index, (load, instruction) in enumerate(candidates):
        if len(frames) == count:
            break
        if index < int((len(frames) + 0.5) * available / count):
            continue
        try:
            frames.append(CalibrationFrame(load(), instruction))
        except ImageError as error:
            refused.append(str(error))
    if refused:
        remarks.append(f"{len(refused)} images could not be used, the first because: {refused[0]}")
    return frames


def _recorded(path: Path, count: int, instruction: str, image_topic: str, remarks: list[str]) -> list[CalibrationFrame]:
    with Bag(path) as bag:
        if not any(kind in IMAGE_TYPES for kind in bag.topic_types.values()):
            topics = ", ".join(sorted(bag.topic_types)) or "none"
            raise CalibrationError(f"{path}: holds no camera images to calibrate on; its topics are: {topics}")
        images = find_images(bag, Configuration(), image_topic)
        spoken = "" if instruction else find_instruction(bag)
        candidates = _images_with_instruction(
            bag, images, spoken, instruction or first_instruction(bag).strip(), remarks
        )
        return _spread(candidates, bag.count(images), count, remarks)


def _images_with_instruction(
    bag: Bag, images: str, instructions: str, instruction: str, remarks: list[str]
) -> Iterator[Candidate]:
    """A bag's images, each with the instruction in effect; `instruction` is the one before the first message."""
    try:
        for topic, _, message in bag.messages({images, instructions}):
            if topic == instructions:
                instruction = message.data.strip() or instruction  # an empty one stops the policy, the task stays
            elif instruction:
                yield partial(decode, message), instruction
    except BagDamage as error:
        remarks.append(str(error).removeprefix(f"{bag.path}: "))


def _pictures(path: Path, count: int, instruction: str, remarks: list[str]) -> list[CalibrationFrame]:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES)
    if not files:
        raise CalibrationError(f"{path}: holds neither pictures (png, jpg) nor demonstrations nor a rosbag2 recording")
    if not instruction:
        raise CalibrationError(f"{path}: pictures do not say what to do; give an instruction with --instruction")
    return _spread(((partial(_open_picture, file), instruction) for file in files), len(files), count, remarks)


def _demonstrated(files: Sequence[Path], count: int) -> list[CalibrationFrame]:
    """One frame of each of `count` demonstrations, spread over the files and over the stages of their tasks."""
    frames = []
    for index in range(count):
        demonstration = Demonstration.read(files[index * len(files) // count])
        stage = index * _GOLDEN_RATIO % 1
        image = demonstration.images[int(stage * len(demonstration.images))]
        frames.append(CalibrationFrame(decode_picture(image), demonstration.instruction))
    return frames


def _open_picture(file: Path) -> NDArray[np.uint8]:
    try:
        return decode_picture(file.read_bytes())
    except ImageError as error:
        raise ImageError(f"{file.name}: {error}") from None


def _simulated(suite: str, count: int) -> list[CalibrationFrame]:
    """Initial states drawn afresh, none of which is evaluated, spread over the tasks of a suite."""
    try:
        from sqap_vla_ros.simulation.libero import LiberoScene, count_tasks
    except ImportError as error:
        raise CalibrationError(f"frames of LIBERO need the optional extra [sim] (mujoco, LIBERO): {error}") from None
    frames = []
    try:
        tasks = count_tasks(suite)
        for task, share in groupby(range(count), lambda index: index * tasks // count):
            scene = LiberoScene(suite, task, initial_state=None)
            try:
                for seed in range(len(list(share))):
                    scene.reset(None, seed)
                    frames.append(CalibrationFrame(scene.camera.render(), scene.instruction))
            finally:
                scene.close()
    except ValueError as error:
        raise CalibrationError(f"{_SIMULATOR}:{suite}: {error}") from None
    return frames
