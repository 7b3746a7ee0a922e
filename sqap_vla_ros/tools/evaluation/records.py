"""The results of an evaluation on disk: what was compared, and a line per finished episode.

    OUT/evaluation.json   checkpoint, robot and policies, with the hashes of all weights
    OUT/episodes.jsonl    one line per episode, appended when it ends

An evaluation resumes where it stopped. It may get more episodes, tasks, policies or disturbances than it had before,
but never other weights or settings under the same names.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqap_vla_ros.config.policy import PolicyConfig
from sqap_vla_ros.config.robot import Configuration
from sqap_vla_ros.core.run_directory import reserve
from sqap_vla_ros.tools.evaluation.episodes import EpisodeKey, EpisodeResult

IDENTITY_FILE = "evaluation.json"
EPISODES_FILE = "episodes.jsonl"

# Where the identity has the robot's settings, and which of them are no matter of robot and loop.
ROBOT = "robot (its settings differ)"
NOT_OF_THE_LOOP = {"policy", "checkpoint", "tokenizer", "device"}


@dataclass(frozen=True)
class Identity:
    """What must be the same for episodes to be compared; all values as JSON knows them.

    Attributes:
        checkpoint_sha256: Hash of the weights that everything is made from.
        loop: Settings of robot and loop.
        tasks: Suite, index and time limit by name of the task.
        policies: Policy file and hash of the weights that it runs, by name of the variant.
    """

    checkpoint_sha256: str
    loop: Mapping[str, Any]
    tasks: Mapping[str, Any]
    policies: Mapping[str, Any]


class Records:
    """The results in a directory.

    Args:
        directory: Where they are; it is created where it does not exist.
        identity: What is evaluated now.

    Raises:
        RunDirectoryError: The directory holds another evaluation, or something that this version does not read.
    """

    def __init__(self, directory: Path, identity: Identity) -> None:
        self._run = reserve(
            directory,
            asdict(identity),
            file=IDENTITY_FILE,
            growing=("tasks", "policies"),
            results=(EPISODES_FILE,),
            made_before=("checkpoints", "calibration"),
            completed=with_new_settings,
        )
        self._record = self._run.record(EPISODES_FILE)
        self._results = {result.key: result for result in self._record.read(lambda entry: EpisodeResult(**entry))}

    def __contains__(self, key: EpisodeKey) -> bool:
        return key in self._results

    def __iter__(self) -> Iterator[EpisodeResult]:
        return iter(self._results.values())

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from adding episodes; see `RunDirectory.lock`."""
        return self._run.lock()

    def add(self, result: EpisodeResult) -> None:
        """Append an episode."""
        self._record.append(asdict(result))
        self._results[result.key] = result


def with_new_settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of an evaluation by an earlier version, with the settings that came later at their defaults.

    Args:
        identity: As in `evaluation.json`.
    """
    loop = dict(identity.get("loop", {}))
    if ROBOT in loop:
        loop[ROBOT] = _filled(Configuration().model_dump(mode="json", exclude=NOT_OF_THE_LOOP), loop[ROBOT])
    defaults = PolicyConfig(name="unnamed").model_dump(mode="json")
    policies = {
        name: {**about, "policy": _filled(defaults, about["policy"])}
        for name, about in identity.get("policies", {}).items()
    }
    return {**identity, "loop": loop, "policies": policies}


def _filled(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    filled = {**defaults, **values}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(filled[name], Mapping):
            filled[name] = _filled(default, filled[name])
    return filled
