"""The loops compiled by numba (the extra `fast`). Loops over columns are written so that they become vector code.

numba computes in 64 bits where C would promote to int, and mixes of signed and unsigned words become floating point; so
every constant has the type of the words that it meets, and results are cut to the word when they are stored.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine import network_kernels
from cipher.algorithm.engine.kernel import inner, kernel
from cipher.algorithm.tiles import Division
from cipher.algorithm.weights import SHEET_INPUTS, Network
from cipher.algorithm.words import Words

_AHEAD = 6
"""Rows between the one that is moved and the one that is fetched from memory."""


class CompiledEngine:
    """Needs numba."""

    name = "numba"

    def add_stream(self, network: Network, first_sheet: int, words: NDArray[np.uint64]) -> None:
        """As `Engine.add_stream`."""
        first = np.uint64(first_sheet * SHEET_INPUTS)
        network_kernels.add_stream(network.weights, network.biases, network.seeds, first, words)

    def choose(self, candidates: NDArray[np.uint64], chosen: NDArray[np.uint64], filled: int) -> int:
        """As `Engine.choose`."""
        return network_kernels.choose(candidates, chosen, filled)

    def influence(self, network: Network) -> NDArray[np.int64]:
        """As `Engine.influence`."""
        changed = np.zeros((network.layers, network.nodes, network.nodes + 2), np.int64)
        network_kernels.influence(network.weights, network.biases, network.seeds, changed)
        return changed

    def measure(self, half: Words, most: int, blocks: int) -> NDArray[np.int64]:
        """As `Engine.measure`."""
        measured = np.zeros((blocks * blocks, 4), np.int64)
        _measure(half, most, blocks, measured)
        return measured

    def arrange(self, draws: NDArray[np.uint32], bands: NDArray[np.int64]) -> NDArray[np.int64]:
        """As `Engine.arrange`."""
        places = np.empty((bands.size - 1, draws.size // (bands.size - 1)), np.int64)
        _arrange(draws, bands, places)
        return places

    def gather(self, half: Words, division: Division, vector: Words) -> None:
        """As `Engine.gather`."""
        for strip in division.strips:
            _move_strip(
                half.reshape(-1), vector, half.shape[1], division.bands, strip.column, strip.width, strip.first_word,
                strip.places, strip.draws, strip.turns, division.bit_turns, True,
            )  # fmt: skip

    def scatter(self, vector: Words, division: Division, half: Words) -> None:
        """As `Engine.scatter`."""
        bits = 8 * half.itemsize
        for strip in division.strips:
            _move_strip(
                vector, half.reshape(-1), half.shape[1], division.bands, strip.column, strip.width, strip.first_word,
                strip.places, strip.draws, (strip.width - strip.turns) % strip.width,
                (bits - division.bit_turns) % bits, False,
            )  # fmt: skip


@kernel
def _measure(half: Words, most: int, blocks: int, out: NDArray[np.int64]) -> None:
    down, across = -(-half.shape[0] // most), -(-half.shape[1] // most)
    rows, columns = -(-half.shape[0] // down), -(-half.shape[1] // across)
    copy = np.empty((rows, columns), np.int64)
    low = high = np.int64(half[0, 0])
    for row in range(rows):
        for column in range(columns):
            value = np.int64(half[row * down, column * across])
            copy[row, column] = value
            low, high = min(low, value), max(high, value)
    # The quotient by a product: exact, as numerators are below 2^24 and the divisor below 2^16.
    scale = max(np.int64(1), high - low)
    inverse = np.int64(1 << 48) // scale + np.int64(1)
    for row in range(rows):
        for column in range(columns):
            copy[row, column] = (copy[row, column] - low) * 255 * inverse >> 48
    counts = np.empty(256, np.int64)
    for block in range(blocks * blocks):
        top, bottom = block // blocks * rows // blocks, (block // blocks + 1) * rows // blocks
        left, right = block % blocks * columns // blocks, (block % blocks + 1) * columns // blocks
        size = (bottom - top) * (right - left)
        counts[:] = 0
        total = squares = steps = collisions = np.int64(0)
        for row in range(top, bottom):
            for column in range(left, right):
                value = copy[row, column]
                total += value
                squares += value * value
                counts[value] += 1
                if row > top:
                    steps += abs(value - copy[row - 1, column])
                if column > left:
                    steps += abs(value - copy[row, column - 1])
        if size:
            for count in counts:
                collisions += count * count
            out[block, 0] = total // size
            out[block, 1] = (size * squares - total * total) // (size * size)
            out[block, 2] = steps // size
            out[block, 3] = size * size // collisions


@kernel
def _arrange(draws: NDArray[np.uint32], bands: NDArray[np.int64], places: NDArray[np.int64]) -> None:
    across = places.shape[1]
    order = np.arange(draws.size)
    for i in range(order.size - 1, 0, -1):
        other = np.int64(np.uint64(draws[i]) * np.uint64(i + 1) >> np.uint64(32))
        order[i], order[other] = order[other], order[i]
    place = 0
    for tile in order:
        band = tile // across
        places[band, tile % across] = place
        place += bands[band + 1] - bands[band]


@kernel
def _move_strip(
    source: Words, target: Words, columns: int, bands: NDArray[np.int64], column: int, width: int, first_word: int,
    places: NDArray[np.int64], draws: NDArray[np.uint32], turns: NDArray[np.int64], bit_turns: NDArray[np.int64],
    onward: bool,
) -> int:  # fmt: skip
    """Move the rows of a strip's tiles from the half into the vector (`onward`) or back, words and bits turned.

    Gives a number without meaning, so that the compiler keeps the loads that only bring memory closer.
    """
    across, tallest = places.shape[1], 0
    for band in range(places.shape[0]):
        tallest = max(tallest, bands[band + 1] - bands[band])
    order, rows = np.empty(tallest, np.int64), np.empty(tallest, np.int64)
    doubled = np.empty(2 * width, target.dtype)
    half = source if onward else target
    line_of_cache = 64 // target.itemsize
    touched = 0
    for band in range(places.shape[0]):
        top, height = bands[band], bands[band + 1] - bands[band]
        for tile in range(across):
            _order_rows(order, top, height, tile, draws)
            for i in range(height):
                rows[order[i]] = i
            corner = top * columns + column + tile * width
            # Row after row of the vector, so that it is read or written in the order of memory; the half is not, and
            # each of its rows is touched some rows ahead, or the processor waits for most of them.
            for place in range(-_AHEAD, height):
                if place + _AHEAD < height:
                    ahead = corner + rows[place + _AHEAD] * columns
                    for word in range(ahead, ahead + width, line_of_cache):
                        touched ^= half[word]
                if place < 0:
                    continue
                manner = draws[top + rows[place], tile] >> np.uint32(28)
                in_half = corner + rows[place] * columns
                in_vector = first_word + (places[band, tile] + place) * width
                begin, end = (in_half, in_vector) if onward else (in_vector, in_half)
                row, moved = source[begin : begin + width], target[end : end + width]
                _copy_turned(moved, row, doubled, turns[manner], bit_turns[manner])
    return touched


@inner
def _order_rows(order: NDArray[np.int64], top: int, height: int, tile: int, draws: NDArray[np.uint32]) -> None:
    """Fill `order` with the place of each of a tile's rows."""
    for i in range(height):
        order[i] = i
    for i in range(height - 1, 0, -1):
        other = np.int64(draws[top + i, tile] & np.uint32(0xFFFF)) * (i + 1) >> 16
        order[i], order[other] = order[other], order[i]


@inner
def _copy_turned(target: Words, source: Words, doubled: Words, turn: int, bit: int) -> None:
    """Copy a row, turned by `turn` words and each word to the left by `bit` bits."""
    # The row is written twice, side by side, and copied from where it begins: two plain runs over whole rows instead
    # of two pieces with odd ends. The shifts are bounded by the word's size, a constant to the compiler, or it would
    # compute in 64 bits.
    word: Any = target.dtype.type
    most = 8 * target.itemsize - 1
    up, down = word(bit & most), word(-bit & most)
    size = source.size
    again = doubled[size:]
    for j in range(size):
        turned = word(source[j] << up) | word(source[j] >> down)
        doubled[j] = turned
        again[j] = turned
    begun = doubled[turn : turn + size]
    for j in range(size):
        target[j] = begun[j]
