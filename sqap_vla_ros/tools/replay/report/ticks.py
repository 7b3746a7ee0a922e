"""Ticks of a report that are worth looking at, with their pictures from the annotated recording."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.bags.reader import Bag
from sqap_vla_ros.core.clock import stamp_ns
from sqap_vla_ros.tools.replay.annotate import ANNOTATED, CHUNK_TOPIC, OVERLAY_TOPIC
from sqap_vla_ros.tools.replay.columns import AGAINST
from sqap_vla_ros.tools.replay.results_reader import Run

_WORST_PER_METRIC = 4
_APART_NS = 10**9  # between two worst ticks: neighbours look the same
_WORST_SHARE = 0.1  # of the ticks: others are not worth looking at
_PICTURE_WIDTH, _JPEG_QUALITY = 480, 78


@dataclass(frozen=True)
class ShownTick:
    """A tick on the page; `picture` is a JPEG in base64, empty if there is none."""

    tick: int
    title: str
    lines: Sequence[str]
    picture: str


def worst_ticks(run: Run, columns: Iterable[str]) -> dict[str, list[int]]:
    """Choose ticks of the worst tenth by each column, the largest first, no two of them close together."""
    worst = {}
    for column in columns:
        values = run.column(column)
        ticks: list[int] = []
        for tick in np.argsort(-values, kind="stable")[: ceil(_WORST_SHARE * np.isfinite(values).sum())]:
            if all(abs(run.stamps_ns[tick] - run.stamps_ns[other]) >= _APART_NS for other in ticks):
                ticks.append(int(tick))
            if len(ticks) == _WORST_PER_METRIC:
                break
        worst[column] = ticks
    return worst


def ticks_to_look_at(run: Run, ticks: Sequence[int], chosen: Mapping[str, Sequence[int]]) -> list[ShownTick]:
    """Describe some ticks, with pictures.

    Args:
        run: The results of one bag.
        ticks: Numbers of the ticks.
        chosen: Result of `worst_ticks`; a rank is given by its columns.
    """
    pictures = _pictures(run, frozenset(ticks))
    columns = {column: run.column(column) for column in chosen}
    shown = []
    for tick in ticks:
        row = run.row(tick)
        distances = [
            f"{1e3 * row[column]:.1f} mm from {words}"
            + (f" ({_rank(columns[column], tick)})" if tick in chosen.get(column, ()) else "")
            for column, words in AGAINST.values()
            if row[column] is not None
        ]
        time_s = (row["stamp_ns"] - run.begin_ns) * 1e-9
        lines = [*distances, row["no_ring_reason"], f"“{row['instruction']}” · stamp {row['stamp_ns']} ns"]
        picture = pictures.get(tick, "")
        shown.append(ShownTick(tick, f"{time_s:.2f} s", [line for line in lines if line], picture))
    return shown


def _rank(values: NDArray[np.float64], tick: int) -> str:
    """Place of a tick among all that have a value, the worst being the first."""
    return f"rank {1 + int((values > values[tick]).sum())} of {int(np.isfinite(values).sum())} from the worst"


def _pictures(run: Run, ticks: frozenset[int]) -> dict[int, str]:
    """Small pictures of the annotated recording by tick, in base64."""
    folder = run.directory / ANNOTATED
    pictures: dict[int, str] = {}
    if not ticks or not folder.is_dir():
        return pictures
    with Bag(folder) as bag:
        latest: Any = None  # chunk: its sequence is the tick, and the picture follows it
        for topic, _, message in bag.messages({CHUNK_TOPIC, OVERLAY_TOPIC}):
            if topic == CHUNK_TOPIC:
                latest = message
            elif latest is not None and latest.sequence in ticks and stamp_ns(message) == stamp_ns(latest):
                pictures[latest.sequence] = _small(message.data)
            if len(pictures) == len(ticks):
                break
    return pictures


def _small(jpeg: NDArray[np.uint8]) -> str:
    picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert picture is not None
    if picture.shape[1] > _PICTURE_WIDTH:
        height = max(round(picture.shape[0] * _PICTURE_WIDTH / picture.shape[1]), 1)
        picture = cv2.resize(picture, (_PICTURE_WIDTH, height), interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return base64.b64encode(encoded.tobytes()).decode()
