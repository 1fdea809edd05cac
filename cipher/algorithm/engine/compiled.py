"""The loops compiled by numba (the extra `fast`). Loops over columns are written so that they become vector code.

numba computes in 64 bits where C would promote to int, and mixes of signed and unsigned words become floating point; so
every constant has the type of the words that it meets, and results are cut to the word when they are stored.
"""

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine import network_kernels
from cipher.algorithm.engine.kernel import kernel
from cipher.algorithm.engine.tile_kernels import move_tiles
from cipher.algorithm.tiles import Division
from cipher.algorithm.weights import SHEET_INPUTS, Network
from cipher.algorithm.words import Words


class CompiledEngine:
    """Needs numba."""

    name = "numba"

    def add_stream(self, network: Network, first_sheet: int, words: NDArray[np.uint64]) -> None:
        """As `Engine.add_stream`."""
        first = np.uint64(first_sheet * SHEET_INPUTS)
        room = np.empty(network_kernels.room_for(network.nodes), np.uint64)
        network_kernels.add_stream(network.weights, network.biases, network.seeds, first, words, room)

    def choose(self, candidates: NDArray[np.uint64], chosen: NDArray[np.uint64], filled: int) -> int:
        """As `Engine.choose`."""
        return network_kernels.choose(candidates, chosen, filled)

    def least_influence(self, network: Network) -> tuple[int, int]:
        """As `Engine.least_influence`."""
        return network_kernels.least_influence(network.weights, network.biases, network.seeds)

    def measure(self, half: Words, most: int, blocks: int) -> NDArray[np.int64]:
        """As `Engine.measure`."""
        measured = np.zeros((blocks * blocks, 4), np.int64)
        _measure(half, most, blocks, measured)
        return measured

    def gather(self, half: Words, division: Division, vector: Words) -> None:
        """As `Engine.gather`."""
        _move(half.reshape(-1), vector, half.shape[1], division, onward=True)

    def scatter(self, vector: Words, division: Division, half: Words) -> None:
        """As `Engine.scatter`."""
        _move(vector, half.reshape(-1), half.shape[1], division, onward=False)


def _move(source: Words, target: Words, columns: int, division: Division, *, onward: bool) -> None:
    strips = np.array(division.strips, np.int64)
    room = np.empty(2 * source.itemsize * max(strip.width for strip in division.strips), np.uint8)
    move_tiles(source, target, columns, division.bands, strips, division.manners, division.draws, room, onward)


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
