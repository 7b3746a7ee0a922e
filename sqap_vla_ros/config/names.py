"""Names of topics and actions, as ROS resolves them in a namespace.

Launch files use this module in ROS's own Python, so it imports nothing.
"""

NODE = "sqap_vla"
"""Name of the node, unless it is remapped."""

_NAME = r"~?/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*"
# Patterns of what a name may be.
TOPIC = f"^{_NAME}$"
OPTIONAL_TOPIC = f"^({_NAME})?$"
OPTIONAL_NODE = OPTIONAL_TOPIC.replace("~?", "")


def absolute_name(name: str, namespace: str = "", node: str = NODE) -> str:
    """Resolve a name as ROS does for the node in a namespace, before any remapping.

    Args:
        name: Absolute, relative or private ("~/status"); empty: none.
        namespace: Of the node, as "left", "/left" or "/"; empty: the root.
        node: Its name.
    """
    if not name or name.startswith("/"):
        return name
    root = "".join(f"/{part}" for part in namespace.split("/") if part)
    return f"{root}/{node}{name[1:]}" if name.startswith("~") else f"{root}/{name}"
