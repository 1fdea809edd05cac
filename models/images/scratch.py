"""Large arrays in a temporary file, so that memory does not grow with the number of images."""

import errno
import math
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

IN_MEMORY = 1 << 26
"""Largest array that is kept in memory, in bytes."""
BLOCK = 1 << 24
"""Bytes of an array that are worked on together."""


def reserve_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array to fill: in memory up to 64 MiB, beyond that mapped from a temporary file that ends with the array.

    The file lies in the system's folder for temporary files, which TMPDIR names. Its space is reserved here: a disk
    that is full when a mapped page is written would end the process by a signal.

    Raises:
        OSError: there is no space for the file.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size <= IN_MEMORY:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile(prefix="he-infer-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno == errno.EFBIG:  # longer than any file may be here
                error.errno = errno.ENOSPC
            named = f"a temporary file of {size / 1e9:.1f} GB in {tempfile.gettempdir()} (TMPDIR names the folder)"
            raise OSError(error.errno, os.strerror(error.errno or errno.ENOSPC), named) from error
        return np.asarray(np.memmap(file, dtype=kind, mode="r+", shape=shape))


def iterate_blocks(array: NDArray[Any]) -> Iterator[slice]:
    """Slices of the first axis that hold about 16 MiB each, at least one row."""
    rows = max(1, BLOCK // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), rows):
        yield slice(start, min(start + rows, len(array)))
