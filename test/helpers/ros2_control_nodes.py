"""A controller and its controller manager as ROS nodes: what others can ask them, without what they do to an arm."""

from typing import Any

from controller_manager_msgs.msg import ControllerState
from controller_manager_msgs.srv import ListControllers
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory


class ControllerNode(Node):
    """The node of a controller: it listens beside its name, and has parameters.

    Args:
        name: Of the controller.
        topic: What it listens on, beside its name.
        kind: Class of the messages.
        settings: Its parameters, by dotted name.
    """

    def __init__(
        self, name: str, topic: str = "joint_trajectory", kind: type = JointTrajectory, **settings: Any
    ) -> None:
        super().__init__(name)
        self.declare_parameters("", [(key, value) for key, value in settings.items()])
        self.create_subscription(kind, f"~/{topic}", lambda message: None, 10)


class ControllerManagerNode(Node):
    """A controller manager that knows some controllers by name, type and state."""

    def __init__(self, **controllers: tuple[str, str]) -> None:
        super().__init__("controller_manager")
        self._controllers = controllers
        self.create_service(ListControllers, "~/list_controllers", self._list)

    def _list(self, _: Any, response: Any) -> Any:
        response.controller = [
            ControllerState(name=name, type=kind, state=state) for name, (kind, state) in self._controllers.items()
        ]
        return response
