"""Cutting of a payload into chunks. Writer and reader derive the same cuts from the header alone.

An image of several frames is cut into groups of frames, so that some can be read without the others. Otherwise, up to
`WHOLE` bytes each segment is one chunk; a larger payload is cut into chunks of at most `CHUNK` bytes, along
frames where a frame fits, else along rows, else along samples; so it can be sealed and opened in bounded memory.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from cipher.algorithm.geometry import LEAST_BYTES
from cipher.container.header import TAG_SIZE, Header, Segment

WHOLE = 64 * 2**20
"""Payloads up to this size are not cut."""
GROUP = 4 * 2**20
"""Approximate bytes of the frames that are sealed together."""
CHUNK = 16 * 2**20
"""Most bytes in a chunk of a larger payload."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some samples of one segment: enciphered as one image, sealed as one record."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def enciphered_bytes(self) -> int:
        """Bytes after the inner cipher, which takes 16 or more: a smaller chunk is padded."""
        return max(self.nbytes, LEAST_BYTES)


def chunk_limit(payload_bytes: int) -> int:
    """Value of the header's `chunk_bytes` for a payload of this size."""
    return WHOLE if payload_bytes <= WHOLE else CHUNK


def frames_in_group(segments: tuple[Segment, ...], limit: int) -> int:
    """Number of frames that are sealed together: about `GROUP` bytes; 0 for an image of one frame."""
    pixels = next((segment for segment in segments if segment.pixels), None)
    if pixels is None or pixels.frames < 2 or pixels.frame_bytes > limit:
        return 0
    return min(pixels.frames, max(1, min(GROUP, limit) // pixels.frame_bytes))


def count_chunks(header: Header) -> int:
    """Number of the payload's chunks, without listing them."""
    return sum(_count(segment, header) for segment in header.segments)


def sealed_size(header: Header) -> int:
    """Bytes of all chunks' records, without listing them."""
    total = header.payload_bytes + count_chunks(header) * TAG_SIZE
    for segment in header.segments:
        if segment.nbytes:
            step, size, entries = _steps(segment, header)
            whole, last = divmod(entries, step)
            total += whole * max(0, LEAST_BYTES - step * size) + (max(0, LEAST_BYTES - last * size) if last else 0)
    return total


def cut(header: Header) -> Iterator[Chunk]:
    """The chunks of the payload, in order."""
    for segment in header.segments:
        if segment.nbytes:
            yield from _cut_segment(segment, header)


def _cut_segment(segment: Segment, header: Header) -> Iterator[Chunk]:
    if segment.nbytes <= header.chunk_bytes and not (header.frames and segment.pixels):
        yield Chunk(segment.dtype, segment.shape, segment.nbytes)
        return
    step, size, total = _steps(segment, header)
    unit = segment.shape[1:] if header.frames and segment.pixels else _units(segment, header.chunk_bytes)[1]
    for first in range(0, total, step):
        count = min(step, total - first)
        yield Chunk(segment.dtype, (count, *unit), count * size)


def _count(segment: Segment, header: Header) -> int:
    if not segment.nbytes:
        return 0
    step, _, total = _steps(segment, header)
    return -(-total // step)


def _steps(segment: Segment, header: Header) -> tuple[int, int, int]:
    """Indivisible pieces in a chunk, bytes of each, and how many there are."""
    if header.frames and segment.pixels:
        return header.frames, segment.frame_bytes, segment.frames
    if segment.nbytes <= header.chunk_bytes:
        return 1, segment.nbytes, 1
    total, unit = _units(segment, header.chunk_bytes)
    size = math.prod(unit) * segment.itemsize
    return header.chunk_bytes // size, size, total


def _units(segment: Segment, limit: int) -> tuple[int, tuple[int, ...]]:
    """Number and shape of the indivisible pieces: frames, or rows, or samples."""
    for axis in range(1, len(segment.shape) + 1):
        unit = segment.shape[axis:]
        if math.prod(unit) * segment.itemsize <= limit:
            return math.prod(segment.shape[:axis]), unit
    return math.prod(segment.shape), ()
