"""Does the arm's controller listen, is it active, and does it take the node's commands as they are meant?

Every setting that matters is said with its meaning for this node, also where it is as it should be.
"""

from collections.abc import Iterator

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.rejection import Cause
from sqap_vla_ros.ros.controller_facts import ControllerFacts, Controllers
from sqap_vla_ros.ros.controller_identity import Audience
from sqap_vla_ros.tools.doctor.controller_settings import arm_settings, gripper_settings
from sqap_vla_ros.tools.doctor.findings import Finding, Level

_GRIPPER_TYPES = {
    "action": "control_msgs/action/GripperCommand",
    "parallel_action": "control_msgs/action/ParallelGripperCommand",
}


def check_controllers(controllers: Controllers | None, configuration: Configuration) -> list[Finding]:
    """Judge who takes the commands of arm and gripper.

    Args:
        controllers: Of a live set-up; None: not examined.
        configuration: The robot's settings.
    """
    if controllers is None:
        return []
    findings = list(_gripper(controllers, configuration))
    findings += _listening(controllers.arm, "command")
    if (facts := controllers.facts.get("command")) is not None:
        findings += _state(facts)
        findings += arm_settings(facts, configuration, controllers.speed_scaling)
    return findings


def _listening(audience: Audience, setting: str) -> Iterator[Finding]:
    """Who listens on a command topic."""
    rejection = audience.no_controller
    if rejection is not None:
        incompatible = rejection.cause is Cause.CONTROLLER_INCOMPATIBLE
        advice = (
            f"see command.output, topics.{setting}"
            if incompatible
            else f"start the controller, or see topics.{setting}"
        )
        if not audience.others and not incompatible:
            yield Finding(Level.WARNING, "controllers", f"no subscriber on {audience.topic}", advice)
        else:
            level = Level.PROBLEM if incompatible else Level.WARNING
            yield Finding(level, "controllers", rejection.sentence, advice)
        return
    what = f"{audience.names} takes the commands: {audience.topic} has a subscriber"
    if audience.others:
        what = f"{audience.names} takes the commands on {audience.topic}; {' and '.join(audience.others)} only listens"
    name = "command.controller" if setting == "command" else "command.gripper_controller"
    advice = (
        "" if audience.is_known else f"not named after the topic: set {name}, so that no other node is taken for it"
    )
    several = len({listener.node for listener in audience.controllers}) > 1
    yield Finding(Level.WARNING if several else Level.OK, "controllers", what, advice)


def _gripper(controllers: Controllers, configuration: Configuration) -> Iterator[Finding]:
    topic, output = configuration.topics.gripper_command, configuration.command.gripper_output
    if controllers.gripper is not None:
        yield from _listening(controllers.gripper, "gripper_command")
    elif controllers.gripper_actions is not None:
        ours, offered = _GRIPPER_TYPES[output], controllers.gripper_actions
        if ours in offered:
            yield Finding(Level.OK, "controllers", f"{topic} has an action server of {ours}")
        elif offered:
            fitting = [name for name, kind in _GRIPPER_TYPES.items() if kind in offered]
            advice = f"set command.gripper_output: {fitting[0]}" if fitting else "see topics.gripper_command"
            what = f"the action {topic} is of type {' and '.join(offered)}, and gripper_output = {output} means {ours}"
            yield Finding(Level.PROBLEM, "controllers", what, advice)
        else:
            advice = "start the gripper's controller, or see topics.gripper_command, command.gripper_output"
            yield Finding(Level.WARNING, "controllers", f"no action server on {topic}", advice)
    if (facts := controllers.facts.get("gripper_command")) is not None:
        yield from _state(facts)
        yield from gripper_settings(facts, configuration)


def _state(facts: ControllerFacts) -> Iterator[Finding]:
    """State and type, from the controller manager."""
    if facts.unmanaged:
        yield Finding(Level.OK, "controller state", f"{facts.node}: not known, {facts.unmanaged}")
    elif facts.state == "active":
        yield Finding(Level.OK, "controller state", f"{facts.node} is active, of type {facts.type}")
    else:
        advice = f"ros2 control set_controller_state {facts.name} active"
        what = f"{facts.node} is {facts.state}, of type {facts.type}: it listens and drops what it receives"
        yield Finding(Level.PROBLEM, "controller state", what, advice)
    if facts.silent:
        yield Finding(Level.OK, "controller settings", f"{facts.node}: not known, {facts.silent}")
