"""Whether a robot file provides what a policy needs in an observation."""

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.robot import Robot
from sqap_vla_ros.core.policy import ONE_CAMERA, PolicyNeeds

# Position and rotation vector, before the joints of a tool state.
_POSE_NUMBERS = 6


def needs_of(policy: PolicyConfig, robot: Robot) -> PolicyNeeds:
    """What a policy file needs, before a checkpoint is loaded; a state has as many joints as the robot file names."""
    trained = policy.openvla
    if trained is None:
        return ONE_CAMERA
    pose = _POSE_NUMBERS if trained.state == "tool" else 0
    size = 0 if trained.state == "none" else pose + len(robot.state.joints)
    return PolicyNeeds(cameras=trained.views, state=trained.state, state_size=size)


def require(needs: PolicyNeeds, robot: Robot, policy: str) -> None:
    """Compare a policy's needs with a robot file.

    Args:
        needs: What the policy needs.
        robot: The robot file.
        policy: Name of the policy, for the message.

    Raises:
        ConfigurationError: Cameras are missing, or the state has another number of joints.
    """
    if needs.cameras > len(robot.cameras):
        names = ", ".join(camera.name for camera in robot.cameras)
        raise ConfigurationError(
            f"policy {policy} needs {needs.cameras} cameras, the robot file of {robot.robot_name} has "
            f"{len(robot.cameras)} ({names}): name them in topics.cameras, in the order in which the policy sees them"
        )
    if needs.state == "none":
        return
    joints = needs.state_size - (_POSE_NUMBERS if needs.state == "tool" else 0)
    if len(robot.state.joints) != joints:
        what = "position, rotation vector and" if needs.state == "tool" else "the positions of"
        raise ConfigurationError(
            f"policy {policy} needs a state of {needs.state_size} numbers ({what} {joints} joints), the robot file of "
            f"{robot.robot_name} names {len(robot.state.joints)} joints: set state.joints"
        )
