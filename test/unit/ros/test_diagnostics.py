"""What monitors read of the node."""

from types import SimpleNamespace
from typing import Any

from sqap_vla.msg import PolicyStatus

from sqap_vla_ros.ros.diagnostics import diagnostics_message


def test_a_diagnostic_names_the_node_and_the_hardware_that_it_is_about() -> None:
    node: Any = SimpleNamespace(
        get_fully_qualified_name=lambda: "/left/sqap_vla", get_parameter=lambda name: SimpleNamespace(value=f"<{name}>")
    )
    (status,) = diagnostics_message(PolicyStatus(), node).status
    assert (status.name, status.hardware_id) == ("/left/sqap_vla: policy", "<robot_name>")
