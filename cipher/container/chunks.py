"""How a payload is cut into chunks. The writer and the reader derive the same cuts from the header alone.

Up to `WHOLE` bytes each segment is one chunk. A larger payload is cut into chunks of at most `CHUNK` bytes, along
frames where a frame fits, else along rows, else along samples; so it can be sealed and opened in bounded memory.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from cipher.container.header import Header, Segment

WHOLE = 64 * 2**20
"""Payloads up to this size are not cut."""
CHUNK = 16 * 2**20
"""Most bytes in a chunk of a larger payload."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some samples of one segment: enciphered as one image, sealed as one record."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


def chunk_limit(payload_bytes: int) -> int:
    """What the header's `chunk_bytes` is for a payload of this size."""
    return WHOLE if payload_bytes <= WHOLE else CHUNK


def count_chunks(header: Header) -> int:
    """How many chunks the payload has, without listing them."""
    return sum(_count(segment, header.chunk_bytes) for segment in header.segments)


def cut(header: Header) -> Iterator[Chunk]:
    """The chunks of the payload, in order."""
    for segment in header.segments:
        if segment.nbytes:
            yield from _cut_segment(segment, header.chunk_bytes)


def _cut_segment(segment: Segment, limit: int) -> Iterator[Chunk]:
    if segment.nbytes <= limit:
        yield Chunk(segment.dtype, segment.shape, segment.nbytes)
        return
    total, unit = _units(segment, limit)
    size = math.prod(unit) * segment.itemsize
    step = limit // size
    for first in range(0, total, step):
        count = min(step, total - first)
        yield Chunk(segment.dtype, (count, *unit), count * size)


def _count(segment: Segment, limit: int) -> int:
    if segment.nbytes <= limit:
        return 1 if segment.nbytes else 0
    total, unit = _units(segment, limit)
    return -(-total // (limit // (math.prod(unit) * segment.itemsize)))


def _units(segment: Segment, limit: int) -> tuple[int, tuple[int, ...]]:
    """Into how many indivisible pieces, of which shape: frames, or rows, or samples."""
    for axis in range(1, len(segment.shape) + 1):
        unit = segment.shape[axis:]
        if math.prod(unit) * segment.itemsize <= limit:
            return math.prod(segment.shape[:axis]), unit
    return math.prod(segment.shape), ()
