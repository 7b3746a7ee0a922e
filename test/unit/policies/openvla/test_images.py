"""The way of an image in front of the network, against pictures that TensorFlow made."""

import io

import numpy as np
import pytest
from openvla_data import GOLDEN, arrays, close, picture, turned
from PIL import Image

from sqap_vla_ros.policies.openvla.images import as_in_training, center_crop, cropped, lanczos, through_jpeg, to_levels
from sqap_vla_ros.vlm.preprocessing import resize

STRIDED = "images/arrays.npz"


def test_jpeg_is_encoded_and_decoded_to_the_pixel():
    np.testing.assert_array_equal(through_jpeg(turned(picture("agentview"))), picture("agentview_decoded"))


def test_the_encoder_s_picture_decodes_to_the_same():
    """TensorFlow's file, decoded accurately, is Pillow's file decoded accurately: only the decoders differ."""
    ours = io.BytesIO()
    Image.fromarray(turned(picture("agentview"))).save(ours, "JPEG", quality=95, subsampling="4:2:0")
    accurate = [np.array(Image.open(file)) for file in (ours, GOLDEN / "images" / "agentview.jpg")]
    np.testing.assert_array_equal(*accurate)
    assert (accurate[0] != picture("agentview_decoded")).mean() > 0.5


def test_lanczos_resizes_to_the_pixel():
    exact = lanczos(picture("agentview_decoded"))
    close(exact[::7, ::5], arrays(STRIDED)["agentview_resized_float_strided"], 2e-4)
    differing = to_levels(exact) != picture("agentview_resized")
    assert differing.sum() <= 5
    pillow = Image.fromarray(picture("agentview_decoded")).resize((224, 224), Image.Resampling.LANCZOS)
    assert (np.array(pillow) != picture("agentview_resized")).mean() > 0.1


def test_the_crop_is_exact():
    image = picture("agentview_resized")
    close(cropped(image)[::7, ::5], arrays(STRIDED)["agentview_cropped_float_strided"], 1e-7)
    np.testing.assert_array_equal(center_crop(image), picture("agentview_cropped"))
    np.testing.assert_array_equal(center_crop(picture("pattern")), picture("pattern_cropped"))


@pytest.mark.parametrize("name", ["agentview", "eye_in_hand", "picture"])
def test_the_whole_way_gives_the_reference_s_picture(name):
    image = picture(name) if name == "picture" else turned(picture(name))
    found, expected = center_crop(as_in_training(image)).astype(int), picture(f"{name}_cropped").astype(int)
    assert np.abs(found - expected).max() <= 1 and (found != expected).sum() <= 10


def test_an_image_of_the_right_size_is_not_resized_again():
    image = picture("agentview_resized")
    assert as_in_training(image) is image


def test_the_processor_s_resize_is_shared():
    np.testing.assert_array_equal(resize(picture("pattern")), picture("pattern_bicubic"))


@pytest.mark.parametrize("name", ["picture", "pattern"])
def test_the_processor_s_pixel_values_are_the_reference_s(case_of, name):
    import torch

    from sqap_vla_ros.vlm.preprocessing import normalise

    pixels = normalise(torch.from_numpy(resize(picture(name)))[None], case_of("libero_0").checkpoint.image_statistics)
    close(torch.cat(pixels, dim=1)[0, :, 3::4, 1::4], arrays(STRIDED)[f"{name}_pixel_values_strided"], 1e-6)
