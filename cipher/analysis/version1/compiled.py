"""The sweep of version 1 compiled by numba (the extra `fast`): an attack enciphers thousands of images."""

from typing import Any

import numpy as np

from cipher.algorithm.engine.kernel import kernel
from cipher.algorithm.words import Words


@kernel
def alter_rows(
    grid: Words, first: int, step: int, keys: Words, before: Words, forward: int, sideways: int, shift: int,
    offset: Words,
) -> None:  # fmt: skip
    """Alter rows `first`, `first + step`, ... in place; `before` is the row before, and becomes the last one."""
    word: Any = grid.dtype.type
    half = 4 * grid.itemsize
    mask = (1 << 8 * grid.itemsize) - 1
    columns = before.size
    for index in range(keys.shape[0]):
        row = grid[first + index * step]
        for column in range(columns):
            beside = column + shift
            if beside >= columns:
                beside -= columns
            v = forward * np.int64(before[column]) + sideways * np.int64(before[beside]) + np.int64(offset[column])
            v &= mask
            v = v * (2 * v + 1) & mask
            row[column] = word((np.int64(row[column] ^ keys[index, column]) + (v ^ v >> half)) & mask)
        for column in range(columns):
            before[column] = row[column]
