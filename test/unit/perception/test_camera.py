"""The camera model against the closed forms of each distortion, and the CameraInfos it refuses."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo

from sqap_vla_ros.perception.camera import CameraError, CameraModel

FX, FY, CX, CY = 600.0, 610.0, 320.0, 240.0
PLUMB_BOB = (-0.28, 0.09, 0.001, -0.002, -0.01)
RATIONAL = (0.4, -0.1, 0.0005, -0.0003, 0.02, 0.6, -0.05, 0.01)
EQUIDISTANT = (-0.02, 0.01, -0.005, 0.001)


def camera_info(d=(), model="", **changes):
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    fields = {
        "width": 640,
        "height": 480,
        "distortion_model": model,
        "d": list(d),
        "k": [FX, 0.0, CX, 0.0, FY, CY, 0.0, 0.0, 1.0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": roi,
    }
    return SimpleNamespace(**fields | changes)


def roi(x_offset, y_offset, width, height):
    return SimpleNamespace(x_offset=x_offset, y_offset=y_offset, width=width, height=height, do_rectify=False)


def project(point, **fields):
    pixels, valid = CameraModel.from_camera_info(camera_info(**fields)).project(np.array([point], float))
    assert valid[0]
    return pixels[0]


def polynomial_distortion(x, y, k1, k2, p1, p2, k3, k4=0.0, k5=0.0, k6=0.0):
    """Brown's model as OpenCV and CameraInfo define it."""
    s = x * x + y * y
    radial = (1 + k1 * s + k2 * s**2 + k3 * s**3) / (1 + k4 * s + k5 * s**2 + k6 * s**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x),
        y * radial + p1 * (s + 2 * y * y) + 2 * p2 * x * y,
    )


directions = st.tuples(st.floats(-0.55, 0.55), st.floats(-0.4, 0.4), st.floats(0.1, 5))


@given(directions)
def test_without_distortion_it_is_a_pinhole(direction):
    x, y, z = direction
    np.testing.assert_allclose(project((x * z, y * z, z)), (FX * x + CX, FY * y + CY), atol=1e-9)


@pytest.mark.parametrize("model, d", [("plumb_bob", PLUMB_BOB), ("rational_polynomial", RATIONAL)])
@given(directions)
def test_polynomial_distortion_is_browns(model, d, direction):
    x, y, z = direction
    xd, yd = polynomial_distortion(x, y, *d)
    np.testing.assert_allclose(project((x * z, y * z, z), model=model, d=d), (FX * xd + CX, FY * yd + CY), atol=1e-6)


@given(directions)
def test_equidistant_distortion_is_kannala_brandts(direction):
    x, y, z = direction
    r = np.hypot(x, y)
    angle = np.arctan(r)
    k1, k2, k3, k4 = EQUIDISTANT
    distorted = angle * (1 + k1 * angle**2 + k2 * angle**4 + k3 * angle**6 + k4 * angle**8)
    scale = distorted / r if r > 1e-8 else 1.0
    expected = (FX * x * scale + CX, FY * y * scale + CY)
    np.testing.assert_allclose(project((x * z, y * z, z), model="equidistant", d=EQUIDISTANT), expected, atol=1e-6)


def test_equidistant_without_coefficients_is_still_not_a_pinhole():
    u, _ = project((1.0, 0.0, 1.0), model="equidistant", d=(0, 0, 0, 0))
    assert u == pytest.approx(FX * np.pi / 4 + CX)


def test_plumb_bob_of_zeros_is_a_pinhole():
    np.testing.assert_allclose(project((0.1, 0.2, 1), model="plumb_bob", d=[0.0] * 5), (FX * 0.1 + CX, FY * 0.2 + CY))


@pytest.mark.parametrize("model", ["", "plumb_bob", "rational_polynomial", "none", "unknown"])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 12, 14, 20])
def test_nothing_but_zeros_is_no_distortion_whatever_the_model_is_called(model, size):
    pixel = project((0.1, 0.2, 1), model=model, d=[0.0] * size)
    np.testing.assert_allclose(pixel, (FX * 0.1 + CX, FY * 0.2 + CY))


THIN_PRISM = (*RATIONAL, 0.002, -0.001, 0.003, -0.002)


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial"])
@pytest.mark.parametrize("d", [PLUMB_BOB[:4], PLUMB_BOB, RATIONAL, THIN_PRISM, (*THIN_PRISM, 0.01, -0.02)])
def test_the_polynomial_models_take_every_number_of_coefficients_that_opencv_takes(model, d):
    k = np.array(camera_info().k).reshape(3, 3)
    expected = cv2.projectPoints(np.array([(0.2, -0.15, 1.0)]), np.zeros(3), np.zeros(3), k, np.array(d))[0]
    np.testing.assert_allclose(project((0.2, -0.15, 1), model=model, d=d), expected.ravel())


@pytest.mark.parametrize(
    ("model", "d", "surplus"),
    [("plumb_bob", PLUMB_BOB, 1), ("plumb_bob", PLUMB_BOB, 10), ("equidistant", EQUIDISTANT, 1)],
)
def test_surplus_coefficients_that_are_zero_are_cut_off(model, d, surplus):
    with_more = project((0.2, -0.15, 1), model=model, d=(*d, *[0.0] * surplus))
    np.testing.assert_array_equal(with_more, project((0.2, -0.15, 1), model=model, d=d))


def test_fisheye_is_another_name_of_equidistant_which_without_coefficients_is_no_pinhole():
    one, other = (project((0.3, 0.2, 1), model=model, d=EQUIDISTANT) for model in ("fisheye", "equidistant"))
    np.testing.assert_array_equal(one, other)
    assert project((1, 0, 1), model="fisheye", d=())[0] == pytest.approx(FX * np.pi / 4 + CX)


@pytest.mark.parametrize(("model", "d"), [("plumb_bob", PLUMB_BOB), ("equidistant", EQUIDISTANT), ("", ())])
def test_skewed_axes_shift_a_pixel_by_its_height_over_the_centre(model, d):
    skewed = [FX, 3.0, CX, 0.0, FY, CY, 0.0, 0.0, 1.0]
    straight = project((0.2, 0.15, 1), model=model, d=d)
    shifted = straight + (3.0 * (straight[1] - CY) / FY, 0)
    np.testing.assert_allclose(project((0.2, 0.15, 1), model=model, d=d, k=skewed), shifted)
    binned = project((0.2, 0.15, 1), model=model, d=d, k=skewed, binning_x=2, binning_y=2, roi=roi(100, 50, 320, 240))
    np.testing.assert_allclose(binned, (shifted - (100, 50)) / 2)


@pytest.mark.parametrize("z", [-1.0, 0.0, 1e-9, np.nan, np.inf])
def test_points_that_are_not_in_front_are_invalid(z):
    pixels, valid = CameraModel.from_camera_info(camera_info()).project(np.array([(0.0, 0.0, z)]))
    assert not valid[0] and np.isnan(pixels[0]).all()


def test_valid_and_invalid_points_keep_their_places():
    points = np.array([(0, 0, -1), (0.1, 0, 1), (0, 0, 0), (0, 0.1, 1)], float)
    pixels, valid = CameraModel.from_camera_info(camera_info()).project(points)
    assert valid.tolist() == [False, True, False, True]
    np.testing.assert_allclose(pixels[valid], [(FX * 0.1 + CX, CY), (CX, FY * 0.1 + CY)])


def test_no_points_give_no_pixels():
    pixels, valid = CameraModel.from_camera_info(camera_info()).project(np.zeros((0, 3)))
    assert pixels.shape == (0, 2) and valid.shape == (0,)


def test_a_polynomial_that_folds_back_does_not_show_points_far_outside_the_view():
    # r (1 - 0.3 r^2) grows up to r = 1.054, and maps r = 1.8 to 0.05: near the middle of the image.
    camera = CameraModel.from_camera_info(camera_info(model="plumb_bob", d=(-0.3, 0, 0, 0, 0)))
    pixels, valid = camera.project(np.array([(1.8, 0, 1), (1.06, 0, 1), (1.05, 0, 1)]))
    assert valid.tolist() == [False, False, True]
    assert pixels[2, 0] == pytest.approx(FX * 1.05 * (1 - 0.3 * 1.05**2) + CX)


def test_a_rational_polynomial_is_invalid_beyond_its_pole():
    # 1 / (1 - 0.25 r^2) has its pole at r = 2
    camera = CameraModel.from_camera_info(camera_info(model="rational_polynomial", d=(0, 0, 0, 0, 0, -0.25, 0, 0)))
    assert camera.project(np.array([(1.9, 0, 1), (2.1, 0, 1)]))[1].tolist() == [True, False]


def test_an_equidistant_polynomial_that_folds_back_ends_the_view():
    # t (1 - 0.5 t^2) grows up to t = 0.816 rad
    camera = CameraModel.from_camera_info(camera_info(model="equidistant", d=(-0.5, 0, 0, 0)))
    points = np.array([(np.tan(t), 0, 1) for t in (0.81, 0.82)])
    assert camera.project(points)[1].tolist() == [True, False]


@given(st.floats(-0.5, 0.5), st.floats(-0.2, 0.2), st.floats(-0.1, 0.1), st.floats(0, 5), st.floats(0, 5))
def test_further_out_stays_further_out_among_valid_points(k1, k2, k3, one, other):
    camera = CameraModel.from_camera_info(camera_info(model="plumb_bob", d=(k1, k2, 0, 0, k3)))
    near, far = sorted((one, other))
    pixels, valid = camera.project(np.array([(near, 0, 1), (far, 0, 1)]))
    if valid[1]:
        assert valid[0] and pixels[0, 0] <= pixels[1, 0] + 1e-9


def test_a_region_of_interest_shifts_the_image():
    camera = CameraModel.from_camera_info(camera_info(roi=roi(100, 50, 320, 240)))
    assert (camera.width, camera.height) == (320, 240)
    np.testing.assert_allclose(camera.project(np.array([(0, 0, 1.0)]))[0][0], (CX - 100, CY - 50))


def test_binning_scales_the_image():
    camera = CameraModel.from_camera_info(camera_info(binning_x=2, binning_y=4))
    assert (camera.width, camera.height) == (320, 120)
    np.testing.assert_allclose(
        camera.project(np.array([(0.1, 0.1, 1)]))[0][0], ((FX / 10 + CX) / 2, (FY / 10 + CY) / 4)
    )


def test_the_region_of_interest_is_in_unbinned_pixels():
    np.testing.assert_allclose(
        project((0, 0, 1), binning_x=2, binning_y=2, roi=roi(100, 50, 320, 240)), ((CX - 100) / 2, (CY - 50) / 2)
    )


def test_distortion_acts_before_region_and_binning():
    full = project((0.3, 0.2, 1), model="plumb_bob", d=PLUMB_BOB)
    part = project((0.3, 0.2, 1), model="plumb_bob", d=PLUMB_BOB, binning_x=2, binning_y=2, roi=roi(100, 50, 320, 240))
    np.testing.assert_allclose(part, (full - (100, 50)) / 2)


def test_messages_of_rclpy_and_rosbags_give_the_same_camera():
    live = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=list(PLUMB_BOB), k=camera_info().k)
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {name.removeprefix("sensor_msgs/msg/"): kind for name, kind in store.types.items()}
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "camera")
    recorded = types["CameraInfo"](
        header, 480, 640, live.distortion_model, np.array(live.d), live.k, live.r, live.p, 0, 0,
        types["RegionOfInterest"](0, 0, 0, 0, False),
    )  # fmt: skip
    name = "sensor_msgs/msg/CameraInfo"
    recorded = store.deserialize_cdr(store.serialize_cdr(recorded, name), name)
    point = np.array([(0.1, 0.2, 1)])
    one, other = (CameraModel.from_camera_info(message).project(point)[0] for message in (live, recorded))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[0], project(point[0], model="plumb_bob", d=PLUMB_BOB))


@pytest.mark.parametrize("whole", [roi(0, 0, 0, 0), roi(0, 0, 640, 480)])
def test_an_empty_or_full_region_is_the_whole_image(whole):
    camera = CameraModel.from_camera_info(camera_info(roi=whole))
    assert (camera.width, camera.height, camera.K[0, 2]) == (640, 480, CX)


def test_the_message_is_left_as_it_is():
    message = camera_info(roi=roi(100, 50, 320, 240), k=np.array([FX, 0, CX, 0, FY, CY, 0, 0, 1]))
    CameraModel.from_camera_info(message)
    assert message.k.tolist() == [FX, 0, CX, 0, FY, CY, 0, 0, 1]


@pytest.mark.parametrize(
    "pixel, inside", [((-0.5, 0), True), ((-0.51, 0), False), ((639.4, 479.4), True), ((639.5, 0), False)]
)
def test_the_image_reaches_half_a_pixel_around_its_pixel_centres(pixel, inside):
    assert CameraModel.from_camera_info(camera_info()).contains(np.array(pixel)) is inside


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"k": [0.0] * 9}, "k is all zero: the camera is not calibrated; calibrate it"),
        ({"k": [-FX, 0, CX, 0, FY, CY, 0, 0, 1]}, "fx > 0 and fy > 0"),
        ({"k": [FX, 0, CX, 0, 0, CY, 0, 0, 1]}, "fx > 0 and fy > 0"),
        ({"k": [FX, 0, CX, 0, np.nan, CY, 0, 0, 1]}, "9 finite numbers"),
        ({"k": [FX, 0, CX]}, "9 finite numbers"),
        ({"k": [FX, 0, CX, 3, FY, CY, 0, 0, 1]}, "must be \\(fx skew cx"),
        ({"k": [FX, 0, CX, 0, FY, CY, 0, 0, 2]}, "must be \\(fx skew cx"),
        ({"width": 0}, "0x480; set width and height"),
        ({"height": 0}, "640x0; set width and height"),
        ({"model": "thin_prism", "d": [0.1]}, "'thin_prism' is unknown; there are: plumb_bob"),
        ({"model": "", "d": [0.1]}, "'' is unknown"),
        ({"model": "plumb_bob", "d": [0.1] * 3}, "3 coefficients, 'plumb_bob' takes 4, 5, 8, 12, 14"),
        ({"model": "plumb_bob", "d": [0.1] * 7}, "7 coefficients, 'plumb_bob' takes 4, 5, 8, 12, 14"),
        ({"model": "rational_polynomial", "d": [0.1] * 15}, "15 coefficients"),
        ({"model": "equidistant", "d": [0.1] * 5}, "5 coefficients, 'equidistant' takes 4"),
        ({"model": "unknown", "d": [np.nan]}, "'unknown' is unknown"),
        ({"model": "equidistant", "d": [0, np.inf, 0, 0]}, "must be finite"),
        ({"model": "equidistant", "d": [1e308] * 4}, "too large to compute with; calibrate again"),
        ({"model": "rational_polynomial", "d": [1e160] * 8}, "too large to compute with; calibrate again"),
        ({"roi": roi(400, 0, 320, 240)}, "roi 320x240 at \\(400, 0\\) must lie in"),
        ({"roi": roi(0, 0, 320, 0)}, "roi 320x0"),
        ({"binning_x": 1000}, "bins 1000x1"),
    ],
)
def test_an_unusable_camera_info_is_refused_in_words(changes, sentence):
    with pytest.raises(CameraError, match=sentence):
        CameraModel.from_camera_info(camera_info(**changes))
