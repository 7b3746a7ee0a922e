"""The results of an evaluation on disk: what was compared, and a line per finished episode.

    OUT/evaluation.json   checkpoint, robot and policies, with the hashes of all weights
    OUT/episodes.jsonl    one line per episode, appended as it ends

An evaluation goes on where it was, and with more episodes, tasks, policies or disturbances than before; never with
other weights or settings under the same names.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from sqap_vla_ros.core.files import write_whole
from sqap_vla_ros.tools.evaluation.episodes import EpisodeKey, EpisodeResult


class EvaluationError(ValueError):
    """An evaluation that cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class Identity:
    """What must be the same for episodes to be compared; all values as JSON has them.

    Attributes:
        checkpoint_sha256: Of the weights that everything is made from.
        loop: Settings of robot and loop.
        tasks: By name: suite, index and time limit.
        policies: By name: policy file and hash of the weights that it runs.
    """

    checkpoint_sha256: str
    loop: Mapping[str, Any]
    tasks: Mapping[str, Any]
    policies: Mapping[str, Any]


class Records:
    """The results in a directory.

    Args:
        directory: Made if it is not there.
        identity: What is evaluated now.

    Raises:
        EvaluationError: The directory holds another evaluation, or something that this version does not read.
    """

    def __init__(self, directory: Path, identity: Identity) -> None:
        self._path = directory / "episodes.jsonl"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EvaluationError(f"{directory}: cannot be used for results ({error.strerror})") from None
        about = directory / "evaluation.json"
        identity = Identity(**json.loads(json.dumps(asdict(identity))))
        if self._path.exists() and not about.exists():
            raise EvaluationError(f"{self._path}: {about.name} is missing beside it; choose another directory")
        if about.exists():
            before = _read_identity(about)
            _refuse_other(directory, before, identity)
            identity = replace(
                identity,
                tasks={**before.tasks, **identity.tasks},
                policies={**before.policies, **identity.policies},
            )
        write_whole(about, (json.dumps(asdict(identity), indent=1) + "\n").encode())
        self._results = {result.key: result for result in self._read()}

    def __contains__(self, key: EpisodeKey) -> bool:
        return key in self._results

    def __iter__(self) -> Iterator[EpisodeResult]:
        return iter(self._results.values())

    def add(self, result: EpisodeResult) -> None:
        """Append an episode."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        self._results[result.key] = result

    def _read(self) -> Iterator[EpisodeResult]:
        if not self._path.exists():
            return
        content = self._path.read_text(encoding="utf-8", errors="replace")
        whole = content[: content.rfind("\n") + 1]
        if whole != content:  # the last line was being written when the machine stopped: that episode is played again
            write_whole(self._path, whole.encode())
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                yield EpisodeResult(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise EvaluationError(
                    f"{self._path}, line {number}: not an episode of this version ({error}); remove the line"
                ) from None


def _read_identity(path: Path) -> Identity:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Identity(**{field.name: content[field.name] for field in fields(Identity)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path}: cannot be used ({error}); choose another directory") from None


def _refuse_other(directory: Path, before: Identity, now: Identity) -> None:
    pairs = [
        ("checkpoint (its hash differs)", before.checkpoint_sha256, now.checkpoint_sha256),
        *((name, before.loop.get(name), value) for name, value in now.loop.items()),
        *((f"task {name}", before.tasks.get(name, value), value) for name, value in now.tasks.items()),
        *((f"policy {name}", before.policies.get(name, value), value) for name, value in now.policies.items()),
    ]
    for name, theirs, ours in pairs:
        if theirs != ours:
            raise EvaluationError(
                f"{directory}: holds episodes with another {name}; they cannot be compared, choose another directory"
            )
