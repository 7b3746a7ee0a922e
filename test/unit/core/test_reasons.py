"""Counting reasons in words."""

from sqap_vla_ros.core.reasons import ReasonCounter


def test_reasons_that_differ_in_their_numbers_only_are_one() -> None:
    reasons = ReasonCounter()
    for u in (-3, 512.5):
        reasons.add(f"the tool is off the image, at pixel ({u}, 7)")
    reasons.add("no CameraInfo received")
    assert reasons.most_common() == {"the tool is off the image, at pixel (-3, 7)": 2, "no CameraInfo received": 1}
    assert reasons.total == 3
