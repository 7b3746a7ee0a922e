"""Observations on their way to the policy's process: images in shared memory, all else in the pipe."""

import pickle
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from sqap_vla_ros.core.observation import Observation, View
from sqap_vla_ros.ros import shared_images


def test_an_observation_of_cameras_of_different_sizes_comes_out_as_it_went_in() -> None:
    random = np.random.default_rng(0)
    front, wrist, side = (random.integers(0, 255, (*size, 3), np.uint8) for size in ((4, 6), (2, 3), (5, 5)))
    further = {"wrist": View(5, wrist, np.array([1.0, 2.0])), "side": View(6, side, None, "no calibration")}
    seen = Observation(7, front, "pick", np.eye(4), further=further, state=np.arange(8.0))
    images = [view.image for view in seen.views]
    block = SharedMemory(create=True, size=sum(image.nbytes for image in images))
    try:
        shared_images.put(images, block)
        sent = pickle.dumps(shared_images.without_images(seen))
        assert len(sent) < 2000
        views = shared_images.look([image.shape for image in images], block)
        received = shared_images.with_images(pickle.loads(sent), [view.copy() for view in views])
        del views
    finally:
        block.close()
        block.unlink()
    assert list(received.further) == ["wrist", "side"]
    for before, after in zip(seen.views, received.views, strict=True):
        np.testing.assert_array_equal(before.image, after.image)
        assert (before.stamp_ns, before.no_ring_reason) == (after.stamp_ns, after.no_ring_reason)
    np.testing.assert_array_equal(received.state, seen.state)
