"""The loops compiled by numba that move the tiles of half of an image into the vector, and back.

See `cipher.algorithm.engine.lanes` about addresses.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.kernel import inner, kernel
from cipher.algorithm.engine.lanes import SPAN, copy_turned, fetch
from cipher.algorithm.words import Words

_AHEAD = 6
"""Rows between the one that is moved and the one that is fetched from memory."""
_LINE = 64
"""Bytes in a line of the processor's cache."""


@kernel
def move_tiles(
    source: Words, target: Words, columns: int, bands: NDArray[np.int64], strips: NDArray[np.int64],
    manners: NDArray[np.uint64], draws: NDArray[np.uint32], room: NDArray[np.uint8], onward: bool,
) -> None:  # fmt: skip
    """Move all tiles from the half into the vector (`onward`) or back, words and bits turned.

    Args:
        source: half or vector, one dimension.
        target: vector or half.
        columns: columns of the half.
        bands: as `Division.bands`.
        strips: as `Division.strips`: rows of column, tiles across, width, first word.
        manners: as `Division.manners`.
        draws: as `Division.draws`.
        room: twice as many bytes as the longest row of a tile.
        onward: the direction.
    """
    most = 0
    for band in range(bands.size - 1):
        most = max(most, bands[band + 1] - bands[band])
    order, rows = np.empty(most, np.int64), np.empty(most, np.int64)
    word, itemsize, used = source.dtype.type, source.itemsize, 0
    half = source.ctypes.data if onward else target.ctypes.data
    for strip in range(strips.shape[0]):
        column, across, width, first_word = strips[strip, 0], strips[strip, 1], strips[strip, 2], strips[strip, 3]
        tiles = (bands.size - 1) * across
        places = _place_tiles(draws[used : used + tiles], bands, across)
        used += tiles
        size = width * itemsize
        for band in range(bands.size - 1):
            top, height = bands[band], bands[band + 1] - bands[band]
            for tile in range(across):
                drawn = used + top * across + tile
                _order_rows(order, height, draws, drawn, across)
                for i in range(height):
                    rows[order[i]] = i
                corner = top * columns + column + tile * width
                # Row after row of the vector, so that it is read or written in the order of memory; the half is not,
                # and each of its rows is fetched some rows ahead, or the processor waits for most of them.
                for place in range(-_AHEAD, height):
                    if place + _AHEAD < height:
                        ahead = half + (corner + rows[place + _AHEAD] * columns) * itemsize
                        for line in range(ahead, ahead + size, _LINE):
                            fetch(line)
                    if place < 0:
                        continue
                    manner = manners[draws[drawn + rows[place] * across] >> np.uint32(28)]
                    turn, bits = np.int64((manner >> np.uint64(32)) * np.uint64(width) >> np.uint64(32)), word(manner)
                    begin = corner + rows[place] * columns
                    end = first_word + (places[band * across + tile] + place) * width
                    if not onward:
                        begin, end, turn, bits = end, begin, width - turn, word(word(0) - bits)
                    if size < SPAN:
                        _copy_short_row(target[end : end + width], source[begin : begin + width], turn, bits)
                    else:
                        into, out_of = target.ctypes.data + end * itemsize, source.ctypes.data + begin * itemsize
                        _copy_row(into, out_of, size, turn * itemsize, bits, room.ctypes.data)
        used += bands[-1] * across


@inner
def _place_tiles(draws: NDArray[np.uint32], bands: NDArray[np.int64], across: int) -> NDArray[np.int64]:
    """Shuffle a strip's tiles; gives the number of rows before each of them in the strip's part of the vector."""
    order, places = np.arange(draws.size), np.empty(draws.size, np.int64)
    for i in range(order.size - 1, 0, -1):
        other = np.int64(np.uint64(draws[i]) * np.uint64(i + 1) >> np.uint64(32))
        order[i], order[other] = order[other], order[i]
    place = 0
    for tile in order:
        places[tile] = place
        place += bands[tile // across + 1] - bands[tile // across]
    return places


@inner
def _order_rows(order: NDArray[np.int64], height: int, draws: NDArray[np.uint32], first: int, across: int) -> None:
    """Fill `order` with the place of each of a tile's rows."""
    for i in range(height):
        order[i] = i
    for i in range(height - 1, 0, -1):
        other = np.int64(draws[first + i * across] & np.uint32(0xFFFF)) * (i + 1) >> 16
        order[i], order[other] = order[other], order[i]


@inner
def _copy_row(
    target: int, source: int, size: int, turn: np.signedinteger[Any], bits: np.unsignedinteger[Any], room: int
) -> None:
    """Copy a row of `size` bytes, turned by `turn` bytes and its words to the left by `bits`; all are addresses."""
    # The row is written twice, side by side, and copied from where it begins: whole spans, of which the last two
    # overlap, instead of two pieces whose lengths the processor cannot foresee.
    last = size - SPAN
    for at in range(0, last, SPAN):
        copy_turned(room + at, source + at, bits)
        copy_turned(room + size + at, source + at, bits)
    copy_turned(room + last, source + last, bits)
    copy_turned(room + size + last, source + last, bits)
    for at in range(0, last, SPAN):
        copy_turned(target + at, room + turn + at, np.uint8(0))
    copy_turned(target + last, room + turn + last, np.uint8(0))


@inner
def _copy_short_row(target: Words, source: Words, turn: np.signedinteger[Any], bits: np.unsignedinteger[Any]) -> None:
    """As `_copy_row`, a row that is shorter than a span."""
    word, most = target.dtype.type, 8 * target.itemsize - 1
    up, down = bits & most, -bits & most
    for j in range(target.size):
        moved = source[(j + turn) % source.size]
        target[j] = word(moved << up) | word(moved >> down)
