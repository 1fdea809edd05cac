"""Memory for chunks that is used again: fresh memory costs as much as the cipher itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_KEPT = 32 * 2**20
"""Most bytes that a thread keeps in each buffer between objects."""

_NOTHING = memoryview(b"")

_free = threading.local()


class Arena:
    """Buffers that grow to the largest chunk. A view is valid until the same buffer is asked for again."""

    def __init__(self) -> None:
        self._buffers = [_NOTHING] * 3

    @classmethod
    @contextmanager
    def borrow(cls) -> "Iterator[Arena]":
        """The thread's arena; another one where that is in use."""
        arena = getattr(_free, "arena", None) or cls()
        _free.arena = None
        try:
            yield arena
        finally:
            arena._buffers = [buffer if len(buffer) <= _KEPT else _NOTHING for buffer in arena._buffers]
            _free.arena = arena

    def first(self, size: int) -> memoryview:
        """`size` writable bytes of any content."""
        return self._take(0, size)

    def second(self, size: int) -> memoryview:
        """As `first`, from another buffer."""
        return self._take(1, size)

    def third(self, size: int) -> memoryview:
        """As `first`, from another buffer."""
        return self._take(2, size)

    def _take(self, index: int, size: int) -> memoryview:
        if len(self._buffers[index]) < size:
            # A new one: views of the old one may still be in use. NumPy asks for large pages, of which the processor
            # remembers enough for rows that lie anywhere.
            self._buffers[index] = np.empty(size, np.uint8).data
        return self._buffers[index][:size]
