"""Image preprocessing against golden data, and its pixel affine against what it does to pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from sqap_vla_ros.vlm.preprocessing import model_image_affine, normalise, resize


@pytest.mark.parametrize("picture", ["pattern", "astronaut"])
def test_resize_gives_the_reference_bytes(golden, picture):
    expected = golden("vision/pixel_values.npz")[f"{picture}_resized_uint8"]
    np.testing.assert_array_equal(resize(golden("vision/images.npz")[picture]), expected)


@pytest.mark.parametrize("size", [(480, 640), (479, 641), (1080, 1920), (256, 256), (120, 160), (5, 3)], ids=str)
def test_resize_is_pillows_whatever_the_size(size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    whole = Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize(image), np.array(whole))


@pytest.mark.parametrize("picture", ["pattern", "astronaut"])
@pytest.mark.parametrize("tower", [0, 1])
def test_normalisation_is_the_reference_s(golden, picture, tower):
    values = golden("vision/pixel_values.npz")
    pixels = normalise(torch.from_numpy(values[f"{picture}_resized_uint8"])[None])[tower][0]
    expected = values[f"{picture}_{('dino', 'siglip')[tower]}"]
    np.testing.assert_allclose(pixels.numpy(), expected, rtol=0, atol=1e-6)


def test_deploy_crop_gives_the_reference_bytes(golden):
    images, expected = golden("vision/images.npz"), golden("vision/deploy_resize.npz")
    mirrored = np.concatenate([images["astronaut"], images["astronaut"][:, ::-1]], axis=1)
    np.testing.assert_array_equal(resize(images["pattern"], deploy_crop=True), expected["pattern_deploy_uint8"])
    np.testing.assert_array_equal(resize(mirrored, deploy_crop=True), expected["mirrored_wide_deploy_uint8"])


@pytest.mark.parametrize("deploy_crop", [False, True])
@pytest.mark.parametrize("spot", [(160, 60), (320, 240), (500, 400)])
def test_affine_says_where_a_spot_lands(deploy_crop, spot):
    column, row = spot
    image = np.zeros((480, 640, 3), np.uint8)
    image[row - 12 : row + 12, column - 12 : column + 12] = 255
    weights = resize(image, deploy_crop=deploy_crop)[..., 0].astype(float)
    rows, columns = np.mgrid[:224, :224] + 0.5
    landed = [np.average(columns, weights=weights), np.average(rows, weights=weights)]
    said = model_image_affine(640, 480, deploy_crop=deploy_crop) @ [column, row, 1]
    np.testing.assert_allclose(said, landed, atol=0.1)


def test_affine_maps_image_corners_to_model_image_corners():
    affine = model_image_affine(640, 480)
    np.testing.assert_allclose(affine @ [0, 0, 1], [0, 0])
    np.testing.assert_allclose(affine @ [640, 480, 1], [224, 224])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_not_an_rgb_image_is_refused_with_its_shape(image):
    with pytest.raises(ValueError, match=r"expected uint8 \(height, width, 3\)"):
        resize(image)


def test_deploy_crop_of_a_square_image_is_refused():
    with pytest.raises(ValueError, match="wider than high"):
        resize(np.zeros((32, 32, 3), np.uint8), deploy_crop=True)
