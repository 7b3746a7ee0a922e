"""The LIBERO tasks that are trained on and evaluated: counterparts of the four task families of the paper's Table 1.

Pick a can, move near, open and close a drawer, place in the open drawer; and one more pick and place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sqap_vla_ros.config.files import ConfigurationError


@dataclass(frozen=True)
class Task:
    """One task of the benchmark.

    Attributes:
        name: Short name on the command line and in results.
        suite: LIBERO suite.
        index: Index of the task in its suite.
        limit_s: Simulated time after which an episode has failed (s); three times what the expert takes.
    """

    name: str
    suite: str
    index: int
    limit_s: float


_ALL = (
    Task("pick_can", "libero_object", 0, 20.0),
    Task("move_near", "libero_90", 70, 15.0),
    Task("open_drawer", "libero_90", 7, 15.0),
    Task("close_drawer", "libero_90", 0, 15.0),
    Task("place_in_drawer", "libero_90", 2, 20.0),
    Task("bowl_on_plate", "libero_goal", 8, 15.0),
)
TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ALL})


def chosen_tasks(names: Sequence[str]) -> tuple[Task, ...]:
    """Tasks by their names; all tasks when there are no names.

    Raises:
        ConfigurationError: There is no such task.
    """
    for name in names:
        if name not in TASKS:
            raise ConfigurationError(f"tasks: no task '{name}'; there are: {', '.join(TASKS)}")
    return tuple(TASKS[name] for name in names or TASKS)
