"""Robot descriptions that arrive and cannot be right."""

from control_robots import chain_urdf
from hand_driven_loop import HandDrivenLoop

# All limits of the chain's joints, as an exporter writes those that nobody filled in.
NO_LIMITS = chain_urdf().replace('lower="-3" upper="3"', 'lower="0" upper="0"')
# One link is 10 cm longer.
LONGER = chain_urdf().replace('<origin xyz="0 0 0.2"/>', '<origin xyz="0 0 0.3"/>', 1)


def describes(urdf: str, seconds: float = 0.0, *, activates: bool = False):
    """A robot description arrives, then time passes."""

    def act(bench: HandDrivenLoop) -> None:
        bench.supervisor.set_robot_description(urdf)
        if activates:
            bench.supervisor.activate()
            bench.pass_time(0.3)
        bench.supervisor.watch()
        bench.pass_time(seconds)

    return act


MODEL_EVENTS = {
    "the node is activated, and the robot description puts the tool elsewhere than TF": describes(
        LONGER, activates=True
    ),
    "a robot description with position limits 0 to 0 arrives": describes(NO_LIMITS),
    "a robot description arrives that puts the tool elsewhere than TF": describes(LONGER, 0.2),
}
