"""Sends images through a path one at a time, and measures each. Knows none of the paths."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class PathReply(NamedTuple):
    """Result of a path for one image."""

    scores: NDArray[np.float64] | Sequence[float]
    """(classes,)"""
    sent: Sequence[bytes] = ()
    answer: Sequence[bytes] = ()


@dataclass(frozen=True)
class TimedScores:
    """Scores with their times and bytes."""

    scores: NDArray[np.float64]
    """(n, classes)"""
    wall_ms: NDArray[np.float64]
    """Milliseconds (n,) of each image, from features to scores."""
    cpu_ms: float
    """Mean of an image, all threads."""
    bytes_up: int
    """Bytes of one image."""
    bytes_down: int


def time_one_by_one(
    features: Iterable[NDArray[np.floating[Any]]],
    ask: Callable[[NDArray[np.floating[Any]]], PathReply],
    step: Callable[[int], None] | None = None,
) -> TimedScores:
    """Ask for each image in its turn.

    Args:
        features: (n, width), at least one row.
        ask: a path, from one row to its scores; this alone is timed by the clock.
        step: called with the number of images done.
    """
    wall: list[float] = []
    scores = []
    up = down = 0
    cpu = time.process_time()
    for row in features:
        began = time.perf_counter()
        reply = ask(row)
        wall.append(1e3 * (time.perf_counter() - began))
        scores.append(reply.scores)
        up, down = sum(map(len, reply.sent)), sum(map(len, reply.answer))
        if step is not None:
            step(len(wall))
    cpu_ms = 1e3 * (time.process_time() - cpu) / len(wall)
    return TimedScores(np.array(scores), np.array(wall), cpu_ms, up, down)
