"""Features of many images in a temporary file, so that memory does not grow with their number. Imports no torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from he_infer.head.layers import Head
from models.errors import InputError
from models.images.scratch import reserve_array

BOUND = 4.0
"""A foreign network's features are kept within +-BOUND by REACH * tanh(x / BOUND), after standardisation."""
REACH = BOUND * (1 - 2**-18)
"""Less than BOUND: a tanh in float32 may exceed 1 by a rounding error, and the client refuses features beyond it."""
BATCH = 64
"""Images whose features are computed together."""
ROWS = 4096
"""Rows of features that are worked on together."""
Extract = Callable[[NDArray[Any]], NDArray[np.float32]]
Progress = Callable[[int], None]


def tabulate(extract: Extract, images: NDArray[Any], progress: Progress | None = None) -> NDArray[np.float32]:
    """Features (N, width) of images, in a temporary file if they are large; see `reserve_array`.

    Args:
        extract: images (n, H, W[, 3]) -> features (n, width).
        images: at least one.
        progress: called with the number of images of each batch.

    Raises:
        InputError: features that are not finite.
        OSError: there is no space for the file.
    """
    first = extract(images[:BATCH])
    table = reserve_array((len(images), first.shape[1]), np.float32)
    for start in range(0, len(images), BATCH):
        rows = first if start == 0 else extract(images[start : start + BATCH])
        if not np.isfinite(rows).all():
            raise InputError("The network gives features that are not finite. Check its weights and its normalisation.")
        table[start : start + len(rows)] = rows
        if progress is not None:
            progress(len(rows))
    return table


def measure_spread(table: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each column of (N, width), in two passes over blocks of rows."""
    total = np.zeros(table.shape[1])
    for start in range(0, len(table), ROWS):
        total += table[start : start + ROWS].sum(axis=0, dtype=np.float64)
    mean = total / len(table)
    squares = np.zeros(table.shape[1])
    for start in range(0, len(table), ROWS):
        squares += ((table[start : start + ROWS] - mean) ** 2).sum(axis=0)
    return mean.astype(np.float32), np.sqrt(squares / len(table)).astype(np.float32)


def bound_table(table: NDArray[np.float32], mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
    """Standardise features (N, width) in place, and keep each within +-BOUND by REACH * tanh(x / BOUND)."""
    for start in range(0, len(table), ROWS):
        rows = table[start : start + ROWS]
        table[start : start + ROWS] = REACH * np.tanh((rows - mean) / deviation / BOUND)


def evaluate_table(head: Head, table: NDArray[Any]) -> NDArray[np.float64]:
    """Scores (N, classes) of features (N, width), block by block."""
    return np.concatenate([head.evaluate(table[start : start + ROWS]) for start in range(0, len(table), ROWS)])
