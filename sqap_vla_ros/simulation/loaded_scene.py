"""One loaded scene per process: loading takes seconds and two gigabytes, a reset a tenth of a second."""

import gc
from typing import Any

from sqap_vla_ros.core.worker_pool import when_worker_ends
from sqap_vla_ros.simulation.tasks import Task

_scenes: dict[Task, Any] = {}


def scene_of(task: Task) -> Any:
    """The task's scene, which stays loaded until that of another task replaces it."""
    from sqap_vla_ros.simulation.libero import LiberoScene

    if task not in _scenes:
        close_scenes()
        gc.collect()  # textures and meshes lie in reference cycles
        _scenes[task] = LiberoScene(task.suite, task.index)
        when_worker_ends(close_scenes)
    return _scenes[task]


def close_scenes() -> None:
    """Free the loaded scene; the next use loads it again."""
    while _scenes:
        _scenes.popitem()[1].close()
