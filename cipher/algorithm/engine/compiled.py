"""The loops compiled by numba (the extra `fast`). Loops over columns are written so that they become vector code.

numba computes in 64 bits where C would promote to int, and mixes of signed and unsigned words become floating point; so
every constant below has the type of the words that it meets, and results are cut to the word when they are stored.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.kernel import inner, kernel
from cipher.algorithm.engine.protocol import Sweep
from cipher.algorithm.geometry import TILE_WORDS
from cipher.algorithm.network import NEURONS, ROTATION, SHEET_INPUTS, SHEET_WORDS, Network
from cipher.algorithm.words import Words

_SQUARE = 128


class CompiledEngine:
    """Needs numba."""

    name = "numba"

    def stream(self, network: Network, first_sheet: int, sheets: int) -> NDArray[np.uint64]:
        """As `Engine.stream`."""
        out = np.empty((sheets, NEURONS, SHEET_INPUTS), np.uint64)
        _stream(network.weights, network.biases, network.seeds, np.uint64(first_sheet * SHEET_INPUTS), out)
        return out.reshape(sheets * SHEET_WORDS)

    def histogram(self, words: Words) -> NDArray[np.int64]:
        """As `Engine.histogram`."""
        return _histogram(words)

    def gather(self, grid: Words, tiles: NDArray[np.int64], pool: NDArray[np.int64], vector: Words) -> None:
        """As `Engine.gather`."""
        _gather(grid, tiles, _doubled(pool), vector)

    def scatter(self, vector: Words, tiles: NDArray[np.int64], pool: NDArray[np.int64], grid: Words) -> None:
        """As `Engine.scatter`."""
        _scatter(grid, tiles, _doubled(pool), vector)

    def alter(self, grid: Words, rows: range, keys: Words, before: Words, sweep: Sweep) -> Words:
        """As `Engine.alter`."""
        word = grid.dtype.type
        _alter(
            grid, rows.start, rows.step, keys, before,
            word(sweep.forward), word(sweep.sideways), sweep.shift, sweep.offset,
        )  # fmt: skip
        last: Words = grid[rows[-1]].copy()
        return last

    def restore(self, grid: Words, rows: range, keys: Words, before: Words, sweep: Sweep) -> Words:
        """As `Engine.restore`."""
        word = grid.dtype.type
        last: Words = grid[rows[-1]].copy()
        _restore(
            grid, rows.start, rows.step, keys, before.copy(),
            word(sweep.forward), word(sweep.sideways), sweep.shift, sweep.offset,
        )  # fmt: skip
        return last

    def transpose(self, grid: Words) -> Words:
        """As `Engine.transpose`."""
        out = np.empty(grid.shape[::-1], grid.dtype)
        _transpose(grid, out)
        return out


def _doubled(pool: NDArray[np.int64]) -> NDArray[np.uint16]:
    """The permutations twice in a row, so that one that begins anywhere is a plain slice."""
    return np.concatenate([pool, pool], axis=1).astype(np.uint16)


@kernel
def _stream(
    weights: NDArray[np.uint64],
    biases: NDArray[np.uint64],
    seeds: NDArray[np.uint64],
    first: np.uint64,
    out: NDArray[np.uint64],
) -> None:
    one = np.uint64(1)
    left, right, top = np.uint64(ROTATION), np.uint64(64 - ROTATION), np.uint64(63)
    a = np.empty((NEURONS, SHEET_INPUTS), np.uint64)
    b = np.empty((NEURONS, SHEET_INPUTS), np.uint64)
    for sheet in range(out.shape[0]):
        begin = first + np.uint64(sheet) * np.uint64(SHEET_INPUTS) + seeds[0]
        for i in range(SHEET_INPUTS):
            a[0, i] = begin + np.uint64(i)
            a[1, i] = seeds[1]
            a[2, i] = seeds[2]
            a[3, i] = seeds[3]
        for layer in range(weights.shape[0]):
            for neuron in range(NEURONS):
                w0 = weights[layer, neuron, 0]
                w1 = weights[layer, neuron, 1]
                w2 = weights[layer, neuron, 2]
                w3 = weights[layer, neuron, 3]
                bias = biases[layer, neuron]
                for i in range(SHEET_INPUTS):
                    x = w0 * a[0, i] + w1 * a[1, i] + w2 * a[2, i] + w3 * a[3, i] + bias
                    x = x * (x << one | one)
                    x = x << left | x >> right
                    b[neuron, i] = x << one ^ (np.uint64(0) - (x >> top))
            a, b = b, a
        for i in range(SHEET_INPUTS):
            out[sheet, 0, i] = a[0, i] + begin + np.uint64(i)
            out[sheet, 1, i] = a[1, i] + seeds[1]
            out[sheet, 2, i] = a[2, i] + seeds[2]
            out[sheet, 3, i] = a[3, i] + seeds[3]


@kernel
def _histogram(words: Words) -> NDArray[np.int64]:
    fold = np.uint64(8)
    # Four tables, so that equal neighbours do not wait for each other's count.
    counts = np.zeros((4, 256), np.int64)
    whole = words.size // 4 * 4
    for i in range(0, whole, 4):
        for lane in range(4):
            word = np.uint64(words[i + lane])
            counts[lane, np.uint8(word ^ (word >> fold))] += 1
    for i in range(whole, words.size):
        word = np.uint64(words[i])
        counts[0, np.uint8(word ^ (word >> fold))] += 1
    total: NDArray[np.int64] = counts.sum(axis=0)
    return total


@kernel
def _gather(grid: Words, tiles: NDArray[np.int64], pool: NDArray[np.uint16], vector: Words) -> None:
    # A tile is copied together first: its rows lie a power of two apart in most images, and would drive each other out
    # of the first-level cache.
    near = np.empty(TILE_WORDS, grid.dtype)
    for tile in range(tiles.shape[0]):
        top, left, height, width, chosen, cut, position = tiles[tile]
        order = pool[chosen, cut : cut + TILE_WORDS]
        count = height * width
        for i in range(height):
            _copy(near[i * width : (i + 1) * width], grid[top + i, left : left + width])
        if count == TILE_WORDS:
            _permute(vector[position : position + TILE_WORDS], near, order)
        else:
            for cell in order:
                if cell < count:
                    vector[position] = near[cell]
                    position += 1


@kernel
def _scatter(grid: Words, tiles: NDArray[np.int64], pool: NDArray[np.uint16], vector: Words) -> None:
    near = np.empty(TILE_WORDS, grid.dtype)
    for tile in range(tiles.shape[0]):
        top, left, height, width, chosen, cut, position = tiles[tile]
        order = pool[chosen, cut : cut + TILE_WORDS]
        count = height * width
        if count == TILE_WORDS:
            _unpermute(near, vector[position : position + TILE_WORDS], order)
        else:
            for cell in order:
                if cell < count:
                    near[cell] = vector[position]
                    position += 1
        for i in range(height):
            _copy(grid[top + i, left : left + width], near[i * width : (i + 1) * width])


@kernel
def _alter(
    grid: Words, first: int, step: int, keys: Words, before: Words, a: Any, b: Any, shift: int, offset: Words
) -> None:
    columns = grid.shape[1]
    split = columns - shift
    line = np.empty(columns, grid.dtype)
    row = first
    for index in range(keys.shape[0]):
        if keys.shape[1] == columns:
            key = keys[index]
        else:
            line[:] = keys[index, 0]
            key = line
        current = grid[row]
        _alter_run(current[:split], key[:split], before[:split], before[shift:], a, b, offset[:split])
        _alter_run(current[split:], key[split:], before[split:], before[:shift], a, b, offset[split:])
        before = current
        row += step


@kernel
def _restore(
    grid: Words, first: int, step: int, keys: Words, before: Words, a: Any, b: Any, shift: int, offset: Words
) -> None:
    columns = grid.shape[1]
    split = columns - shift
    line = np.empty(columns, grid.dtype)
    after = np.empty(columns, grid.dtype)
    row = first
    for index in range(keys.shape[0]):
        if keys.shape[1] == columns:
            key = keys[index]
        else:
            line[:] = keys[index, 0]
            key = line
        current = grid[row]
        _copy(after, current)
        _restore_run(current[:split], key[:split], before[:split], before[shift:], a, b, offset[:split])
        _restore_run(current[split:], key[split:], before[split:], before[:shift], a, b, offset[split:])
        before, after = after, before
        row += step


@kernel
def _transpose(grid: Words, out: Words) -> None:
    # Through a small square, so that every cache line of either array is touched once.
    rows, columns = grid.shape
    square = np.empty((_SQUARE, _SQUARE + 2), grid.dtype)
    for row in range(0, rows, _SQUARE):
        height = min(_SQUARE, rows - row)
        for column in range(0, columns, _SQUARE):
            width = min(_SQUARE, columns - column)
            for i in range(height):
                _copy(square[i, :width], grid[row + i, column : column + width])
            for j in range(width):
                target = out[column + j, row : row + height]
                for i in range(height):
                    target[i] = square[i, j]


# The loops that become vector code: plain runs over arrays that begin at 0. Given one array and two offsets instead,
# the compiler does not see that they do not overlap, and is eight times slower.


@inner
def _copy(target: Words, source: Words) -> None:
    for j in range(target.size):
        target[j] = source[j]


@inner
def _permute(target: Words, source: Words, order: NDArray[np.uint16]) -> None:
    for i in range(target.size):
        target[i] = source[order[i]]


@inner
def _unpermute(target: Words, source: Words, order: NDArray[np.uint16]) -> None:
    for i in range(source.size):
        target[order[i]] = source[i]


@inner
def _alter_run(current: Words, key: Words, before: Words, rolled: Words, a: Any, b: Any, offset: Words) -> None:
    word = current.dtype.type
    one, half = word(1), word(4 * current.itemsize)
    for j in range(current.size):
        v = word(word(a * before[j]) + word(b * rolled[j]) + offset[j])
        v = word(v * word(v << one | one))
        current[j] = word(word(current[j] ^ key[j]) + word(v ^ v >> half))


@inner
def _restore_run(current: Words, key: Words, before: Words, rolled: Words, a: Any, b: Any, offset: Words) -> None:
    word = current.dtype.type
    one, half = word(1), word(4 * current.itemsize)
    for j in range(current.size):
        v = word(word(a * before[j]) + word(b * rolled[j]) + offset[j])
        v = word(v * word(v << one | one))
        current[j] = word(word(current[j] - word(v ^ v >> half)) ^ key[j])
