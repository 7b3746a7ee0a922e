# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The images of an observation in one block of shared memory, one after another."""

from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.core.observation import Observation

Image = NDArray[np.uint8]
_NONE = np.empty((0, 0, 3), np.uint8)


def put(images: Sequence[Image], block: SharedMemory) -> None:
    """Copy images into a block that is large enough for all."""
    for image, place in zip(images, look([image.shape for image in images], block), strict=True):
        np.copyto(place, image)


def look(shapes: Sequence[tuple[int, ...]], block: SharedMemory) -> tuple[Image, ...]:
    """View the images in a block, without copying; they live as long as the block."""
    images: list[Image] = []
    offset = 0
    for shape in shapes:
        images.append(np.ndarray(shape, np.uint8, block.buf, offset))
        offset += images[-1].nbytes
    return tuple(images)


def without_images(observation: Observation) -> Observation:
    """Make the same observation for the pipe."""
    return with_images(observation, (_NONE,) * len(observation.views))


def with_images(observation: Observation, images: Sequence[Image]) -> Observation:
    """Make the same observation with these images, the first camera's first."""
    further = {
        name: replace(view, image=image)
        for (name, view), image in zip(observation.further.items(), images[1:], strict=True)
    }
    return replace(observation, image=images[0], further=further)
