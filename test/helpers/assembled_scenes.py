"""A camera that looks down on a tool at known places, and the assembler that observes it."""

from types import SimpleNamespace

import numpy as np

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.perception.assembly import ObservationAssembler
from sqap_vla_ros.perception.transforms import quaternion_from_matrix, rotation_from_rpy, transform_from

MS = 10**6
T0 = 100 * 10**9  # stamp of the first image
WIDTH, HEIGHT, F = 64, 48, 50.0
# A camera one metre above the base's origin, looking down: its x along the base's x, its y against the base's y.
T_BASE_CAMERA = transform_from((0, 0, 1), rotation_from_rpy((np.pi, 0, 0)))
T_BASE_TOOL = transform_from((0.2, 0.1, 0.5), rotation_from_rpy((0, 0, 0.3)))
# 0.5 m below the camera, 0.2 m right and 0.1 m up in the image
TOOL_PX = (WIDTH / 2 + F * 0.4, HEIGHT / 2 - F * 0.2)


def stamp(stamp_ns):
    return SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def image(stamp_ns=T0, value=0, frame_id="camera", **changes):
    fields = {"encoding": "rgb8", "width": WIDTH, "height": HEIGHT, "step": 3 * WIDTH}
    data = np.full(WIDTH * HEIGHT * 3, value, np.uint8)
    header = SimpleNamespace(stamp=stamp(stamp_ns), frame_id=frame_id)
    return SimpleNamespace(**fields | {"data": data, "header": header} | changes)


def transforms(stamp_ns, parent, child, T):
    x, y, z, w = quaternion_from_matrix(T)
    translation = SimpleNamespace(**dict(zip("xyz", T[:3, 3].tolist(), strict=True)))
    transform = SimpleNamespace(translation=translation, rotation=SimpleNamespace(x=x, y=y, z=z, w=w))
    header = SimpleNamespace(frame_id=parent, stamp=stamp(stamp_ns))
    return SimpleNamespace(transforms=[SimpleNamespace(header=header, child_frame_id=child, transform=transform)])


def camera_info(stamp_ns=T0, **changes):
    fields = {
        "header": SimpleNamespace(stamp=stamp(stamp_ns), frame_id="camera"),
        "width": WIDTH,
        "height": HEIGHT,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": [F, 0, WIDTH / 2, 0, F, HEIGHT / 2, 0, 0, 1],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**fields | changes)


def assembler(
    calibrated=True,
    camera_transform=True,
    instruction="pick up the can",
    T_base_tool=T_BASE_TOOL,
    freshness=(),
    **frames,
):
    """Everything but the tool's transforms and an image."""
    frames = {"base": "base", "tool": "tool"} | frames
    configuration = Configuration(frames=frames, freshness=dict(freshness)).in_namespace("")
    made = ObservationAssembler(configuration)
    made.set_instruction(instruction)
    if calibrated:
        made.set_camera_info(camera_info())
    if camera_transform:
        made.add_transforms(transforms(0, "base", "camera", T_BASE_CAMERA), static=True)
    return made


def add_tool(made, *stamps_ns, T=T_BASE_TOOL):
    for stamp_ns in stamps_ns:
        made.add_transforms(transforms(stamp_ns, "base", "tool", T))


def ready(T_base_tool=T_BASE_TOOL, **settings):
    """An assembler whose tree brackets the first image."""
    made = assembler(**settings)
    add_tool(made, T0 - 10 * MS, T0 + 10 * MS, T=T_base_tool)
    return made


def observe(made, now_ns=T0, **fields):
    made.offer(image(**fields), now_ns)
    outcome = made.poll(now_ns)
    assert isinstance(outcome, Observation), outcome
    return outcome
