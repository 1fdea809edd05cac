"""A part of an open file, as a file of its own: a sealed object inside a DICOM object is read and rekeyed in place.

Knows nothing of what the bytes mean.
"""

import io
import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class _Window(io.RawIOBase):
    """Bytes `start` to `start + length` of `handle`; it neither grows nor closes the file around it."""

    def __init__(self, handle: BinaryIO, start: int, length: int) -> None:
        super().__init__()
        self._handle = handle
        self._start = start
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return self._handle.writable()

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._handle.fileno()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise ValueError(f"Position {base + offset} lies before the window.")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._length - self._position))
        self._handle.seek(self._start + self._position)
        piece = self._handle.read(wanted)
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def write(self, buffer: "ReadableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        if self._position + len(view) > self._length:
            raise OSError("A write would run over the end of the window.")
        self._handle.seek(self._start + self._position)
        self._handle.write(view)
        self._position += len(view)
        return len(view)

    def flush(self) -> None:
        if not self._handle.closed and self._handle.writable():
            self._handle.flush()


def window(handle: BinaryIO, start: int, length: int) -> BinaryIO:
    """A view of `length` bytes of `handle` from `start` on, which begins at position 0.

    Args:
        handle: open in binary, seekable; the window moves its position.
        start: first byte.
        length: bytes; a read at the end gives nothing, a write beyond it is refused with OSError.
    """
    raw = _Window(handle, start, length)
    return io.BufferedRandom(raw) if handle.writable() else io.BufferedReader(raw)
