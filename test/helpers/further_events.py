"""A loop whose policy needs two cameras and a state, and what happens to them in the table of transitions."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from hand_driven_loop import HandDrivenLoop, S, message

from sqap_vla_ros.config.cameras import Cameras, StateConvention
from sqap_vla_ros.config.robot import Topics
from sqap_vla_ros.core.policy import PolicyNeeds

WRIST, FINGER = "wrist", "finger"


class TwoCameraLoop(HandDrivenLoop):
    """Two cameras, and one finger in the state.

    Attributes:
        wrist_late_s: How long ago the wrist camera's images were taken when they are sent.
        is_wrist_frozen: Whether they stay identical.
    """

    needs = PolicyNeeds(cameras=2, state="tool", state_size=7)

    def __init__(self, **settings: object) -> None:
        cameras = Cameras(
            names=("front", WRIST), images=("/front", "/wrist"), camera_infos=("", ""), frames=("camera", "camera")
        )
        topics = Topics(enable="/enable", gripper_command="/gripper", cameras=cameras)
        super().__init__(topics=topics, state=StateConvention(joints=(FINGER,)), **settings)
        self.sends |= {WRIST, FINGER}
        self.wrist_late_s = 0.0
        self.is_wrist_frozen = False
        self._wrist_pixel = 0

    def _send_inputs(self) -> None:
        now_ns, inputs = self.clock.ros_ns, self.loop.inputs
        if WRIST in self.sends:
            self._wrist_pixel += not self.is_wrist_frozen
            data = np.full((8, 9, 3), self._wrist_pixel % 256, np.uint8).tobytes()
            fields = {"height": 8, "width": 9, "encoding": "rgb8", "is_bigendian": 0, "step": 27, "data": data}
            inputs.offer_further_image(WRIST, message(now_ns - round(self.wrist_late_s * S), **fields))
        if FINGER in self.sends:
            inputs.add_joint_states(SimpleNamespace(header=message(now_ns).header, name=[FINGER], position=[0.04]))
        super()._send_inputs()


def _without(name: str) -> Callable[[HandDrivenLoop], None]:
    def event(bench: HandDrivenLoop) -> None:
        bench.sends.discard(name)
        bench.pass_time(1.5)

    return event


def _late(bench: HandDrivenLoop) -> None:
    assert isinstance(bench, TwoCameraLoop)
    bench.wrist_late_s = 0.2
    bench.pass_time(1.5)


def _frozen(bench: HandDrivenLoop) -> None:
    assert isinstance(bench, TwoCameraLoop)
    bench.is_wrist_frozen = True
    bench.pass_time(1.5)


FURTHER_EVENTS: dict[str, Callable[[HandDrivenLoop], None]] = {
    "images of a further camera stop": _without(WRIST),
    "images of a further camera are 0.2 s late": _late,
    "images of a further camera freeze while the tool moves": _frozen,
    "a joint of the state is no longer measured": _without(FINGER),
}
