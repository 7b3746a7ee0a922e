# Copyright 2026 The sqap_vla maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The messages between the node and the process that its policy lives in."""

from collections.abc import Callable
from dataclasses import dataclass

from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.action_chunk import ActionChunk, CommittedActions
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.core.policy import Policy, PolicyMetadata

PolicyFactory = Callable[[Configuration, Callable[[str], None]], Policy]
"""Builds the policy from the settings; the second argument is called with a sentence about the progress."""


# To the process


@dataclass(frozen=True)
class PlanRequest:
    """
    A plan is wanted.

    :ivar ticket: Comes back with the answer.
    :ivar resets: Whether the policy forgets first what it carries between plans.
    :ivar observation: Without its images, which lie in shared memory one after another.
    :ivar committed: The committed prefix, or None.
    :ivar frame: Name of the shared memory.
    :ivar shapes: Of the images of all cameras, (height, width, 3) each.
    """

    ticket: int
    resets: bool
    observation: Observation
    committed: CommittedActions | None
    frame: str
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CloseRequest:
    """The process ends."""


Request = PlanRequest | CloseRequest


# From the process


@dataclass(frozen=True)
class Progress:
    """A sentence about what the process does while it loads the policy."""

    text: str


@dataclass(frozen=True)
class Ready:
    """The policy is loaded and has planned once."""

    metadata: PolicyMetadata


@dataclass(frozen=True)
class Failed:
    """The policy could not be loaded, or its process ended, with a sentence that says why; the process is of no use."""

    reason: str


@dataclass(frozen=True)
class Planned:
    """
    Answer to one `PlanRequest`.

    :ivar ticket: The request's.
    :ivar chunk: The plan, or None when the policy raised.
    :ivar error: What it raised, in one line; empty when it planned.
    :ivar entered_ns: `plan` entered, on the machine's monotonic clock.
    :ivar returned_ns: `plan` returned, on the same clock.
    """

    ticket: int
    chunk: ActionChunk | None
    error: str
    entered_ns: int
    returned_ns: int


Report = Progress | Ready | Failed | Planned
