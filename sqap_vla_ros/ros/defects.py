# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Errors that nobody foresaw: the node goes on, and the log keeps one traceback for each place that they come from."""

import traceback
from typing import Any, Protocol

from sqap_vla_ros.core.errors import in_one_line


class Log(Protocol):
    """What an rclpy logger offers."""

    def info(self, message: str, **options: Any) -> bool:
        """Log what happens."""

    def warning(self, message: str, **options: Any) -> bool:
        """Log what may need attention."""

    def error(self, message: str, **options: Any) -> bool:
        """Log what went wrong."""


class DefectLog:
    """
    Logs tracebacks, once for each line of code.

    :param log: Where to.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._seen: set[tuple[str, int | None]] = set()

    def sentence(self, what: str, error: Exception) -> str:
        """Say what failed and why, in one line; the traceback goes to the log."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        if (last.filename, last.lineno) not in self._seen:
            self._seen.add((last.filename, last.lineno))
            self._log.error(f"{what}:\n{''.join(traceback.format_exception(error))}")
        return f"{what}: {in_one_line(error)}"
