# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where ROS writes its logs: without such a place no context can be made, and rcl says little about why."""

import os
from pathlib import Path

from sqap_vla_ros.config.files import ConfigurationError


def require_logging_directory() -> None:
    """
    Check that ROS has a directory for its logs, which it looks for as rcl_logging does.

    :raises ConfigurationError: None is named, or it cannot be written.
    """
    named = os.environ.get("ROS_LOG_DIR")
    home = os.environ.get("ROS_HOME")
    try:
        directory = Path(named).expanduser() if named else Path(home or "~/.ros").expanduser() / "log"
        if not named and not home and not os.environ.get("HOME"):
            raise RuntimeError("HOME is not set")
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(
            f"ROS has nowhere to log ({reason}): set ROS_LOG_DIR, or HOME, to a directory that can be written"
        ) from None
