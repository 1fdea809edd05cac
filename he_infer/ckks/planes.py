"""Numbers of r bits as bytes without gaps: planes of 32, 16, 8, 4, 2 and 1 bits, those that make up r in binary.

The widest plane comes first and holds the lowest bits of all numbers; the next one holds the bits above, and so on. A
plane of 32, 16 or 8 bits is an array of little-endian words; in a plane of 4, 2 or 1 bits, numbers of lower index stand
in lower bits of a byte. So 50 bits are a plane of 32, one of 16 and one of 2, and N numbers take exactly N r / 8 bytes.

Every plane is read and written as a whole, so that numpy and compiled loops do it without shifting bit by bit.
"""

import numpy as np
from numpy.typing import NDArray

_WORDS = {32: "<u4", 16: "<u2", 8: "<u1"}
_WIDTHS = (32, 16, 8, 4, 2, 1)
MAX_BITS = sum(_WIDTHS)


def split_planes(bits: int) -> list[tuple[int, int]]:
    """List the planes of numbers of 1 to 63 bits: each plane's width and the number of bits below it."""
    planes, below = [], 0
    for width in _WIDTHS:
        if bits & width:
            planes.append((width, below))
            below += width
    return planes


def count_plane_bytes(count: int, bits: int) -> int:
    """Count the bytes that `count` numbers take; count is a multiple of eight."""
    return count * bits // 8


def pack_planes(numbers: NDArray[np.uint64], bits: int) -> bytes:
    """Pack numbers below 2^bits into bytes; their count is a multiple of eight."""
    packed = []
    for width, below in split_planes(bits):
        plane = (numbers >> np.uint64(below)) & np.uint64((1 << width) - 1)
        if width in _WORDS:
            packed.append(plane.astype(_WORDS[width]).tobytes())
            continue
        columns = plane.astype(np.uint8).reshape(-1, 8 // width)
        byte = columns[:, 0].copy()
        for index in range(1, 8 // width):
            byte |= columns[:, index] << np.uint8(index * width)
        packed.append(byte.tobytes())
    return b"".join(packed)


def unpack_planes(data: bytes, count: int, bits: int) -> NDArray[np.uint64]:
    """Return the numbers (count,) that `pack_planes` wrote into exactly these bytes."""
    numbers = np.zeros(count, dtype=np.uint64)
    at = 0
    for width, below in split_planes(bits):
        size = count * width // 8
        if width in _WORDS:
            plane = np.frombuffer(data, dtype=_WORDS[width], count=count, offset=at)
        else:
            held = np.frombuffer(data, dtype=np.uint8, count=size, offset=at)
            shifts = np.arange(0, 8, width, dtype=np.uint8)
            plane = ((held[:, None] >> shifts) & np.uint8((1 << width) - 1)).reshape(-1)
        numbers |= plane.astype(np.uint64) << np.uint64(below)
        at += size
    return numbers
