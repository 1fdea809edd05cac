"""The loops of version 1: whole rows at a time with numpy; its sweeps also compiled, for attacks by many images."""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.words import Words
from cipher.analysis.version1.geometry import TILE, TILE_WORDS
from cipher.analysis.version1.network import NEURONS, ROTATION, SHEET_INPUTS, SHEET_WORDS, Network

_SHEETS_AT_ONCE = 8
_HISTOGRAM_PIECE = 1 << 16
_BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Keyed constants of one sweep over the rows of a grid; w is the size of a word in bits."""

    forward: int
    """a, odd, below 2^w: weight of the row before."""
    sideways: int
    """b, odd, below 2^w, or 0 where a row has one word: weight of the row before, rolled."""
    shift: int
    """s, 1 to columns - 1 (0 where a row has one word): how far it is rolled."""
    offset: Words
    """d, one word a column."""
    start: Words
    """Words in place of the row before the first, one a column."""


class VectorisedEngine:
    """Whole rows at a time."""

    def stream(self, network: Network, first_sheet: int, sheets: int) -> NDArray[np.uint64]:
        """Sheets of the network's key stream: (sheets * 1024,) uint64, read only."""
        return _stream(network, first_sheet, sheets)

    def histogram(self, words: Words) -> NDArray[np.int64]:
        """Counts of the words' bytes, a 16-bit word's two bytes XORed: (256,)."""
        counts = np.zeros(256, np.int64)
        for start in range(0, words.size, _HISTOGRAM_PIECE):
            piece = words[start : start + _HISTOGRAM_PIECE]
            if piece.dtype == np.uint16:
                piece = (piece ^ (piece >> 8)).astype(np.uint8)
            counts += np.bincount(piece, minlength=256)
        return counts

    def gather(self, grid: Words, tiles: NDArray[np.int64], pool: NDArray[np.int64], vector: Words) -> None:
        """Read the tiles of `grid` in order, each in a permuted order, into `vector`."""
        flat = grid.reshape(-1)
        for source, order, position in _tile_orders(tiles, pool, grid.shape[1]):
            np.take(flat[source:], order, out=vector[position : position + order.size], mode="clip")

    def scatter(self, vector: Words, tiles: NDArray[np.int64], pool: NDArray[np.int64], grid: Words) -> None:
        """The inverse of `gather`."""
        flat = grid.reshape(-1)
        for source, order, position in _tile_orders(tiles, pool, grid.shape[1]):
            flat[source:][order] = vector[position : position + order.size]

    def alter(self, grid: Words, rows: range, keys: Words, before: Words, sweep: Sweep) -> Words:
        """Alter some rows in place, each by the altered one before it; give a copy of the last."""
        compiled = _compiled_alter()
        if compiled is not None:
            after = before.copy()
            compiled(grid, rows.start, rows.step, np.broadcast_to(keys, (len(rows), before.size)), after, sweep)
            return after
        feedback = _Feedback(sweep, before.size)
        for index, row in enumerate(rows):
            current = grid[row]
            np.bitwise_xor(current, keys[index], out=current)
            np.add(current, feedback(before), out=current)
            before = current
        return before.copy()

    def restore(self, grid: Words, rows: range, keys: Words, before: Words, sweep: Sweep) -> Words:
        """The inverse of `alter`."""
        feedback = _Feedback(sweep, before.size)
        before, spare = before.copy(), np.empty_like(before)
        for index, row in enumerate(rows):
            current = grid[row]
            spare[:] = current
            np.subtract(current, feedback(before), out=current)
            np.bitwise_xor(current, keys[index], out=current)
            before, spare = spare, before
        return before

    def transpose(self, grid: Words) -> Words:
        """A C-contiguous copy with rows and columns exchanged."""
        rows, columns = grid.shape
        out = np.empty((columns, rows), grid.dtype)
        for row in range(0, rows, _BLOCK):
            out[:, row : row + _BLOCK] = grid[row : row + _BLOCK].T
        return out


@functools.lru_cache(maxsize=64)
def _stream(network: Network, first_sheet: int, sheets: int) -> NDArray[np.uint64]:
    out = np.empty((sheets, NEURONS, SHEET_INPUTS), np.uint64)
    for first in range(0, sheets, _SHEETS_AT_ONCE):
        count = min(_SHEETS_AT_ONCE, sheets - first)
        state = _evaluate(network, (first_sheet + first) * SHEET_INPUTS, count * SHEET_INPUTS)
        out[first : first + count] = state.reshape(NEURONS, count, SHEET_INPUTS).transpose(1, 0, 2)
    stream = out.reshape(sheets * SHEET_WORDS)
    stream.flags.writeable = False
    return stream


@functools.cache
def _compiled_alter() -> Callable[[Words, int, int, Words, Words, Sweep], None] | None:
    """`VectorisedEngine.alter` as machine code, `before` overwritten by the last row; None without numba."""
    if importlib.util.find_spec("numba") is None:
        return None
    from cipher.analysis.version1.compiled import alter_rows

    def alter(grid: Words, first: int, step: int, keys: Words, before: Words, sweep: Sweep) -> None:
        alter_rows(grid, first, step, keys, before, sweep.forward, sweep.sideways, sweep.shift, sweep.offset)

    return alter


class _Feedback:
    """q(a p + b roll(p, s) + d) for one sweep, in buffers that are used again."""

    def __init__(self, sweep: Sweep, columns: int) -> None:
        word = sweep.offset.dtype
        self._forward = word.type(sweep.forward)
        self._sideways = word.type(sweep.sideways)
        self._shift = sweep.shift
        self._split = columns - sweep.shift
        self._offset = sweep.offset
        self._half = word.type(4 * word.itemsize)
        self._one = word.type(1)
        self._sum = np.empty(columns, word)
        self._rest = np.empty(columns, word)
        self._rolled = (self._rest[self._shift :], self._rest[: self._shift])
        self._targets = (self._sum[: self._split], self._sum[self._split :])

    def __call__(self, before: Words) -> Words:
        total, rest = self._sum, self._rest
        np.multiply(before, self._forward, out=total)
        if self._shift:
            np.multiply(before, self._sideways, out=rest)
            for target, rolled in zip(self._targets, self._rolled, strict=True):
                np.add(target, rolled, out=target)
        np.add(total, self._offset, out=total)
        np.left_shift(total, self._one, out=rest)
        np.bitwise_or(rest, self._one, out=rest)
        np.multiply(rest, total, out=total)
        np.right_shift(total, self._half, out=rest)
        np.bitwise_xor(total, rest, out=total)
        return total


def _evaluate(network: Network, first: int, count: int) -> NDArray[np.uint64]:
    """The network's outputs for inputs number `first` to `first + count - 1`: (4, count)."""
    entry = np.empty((NEURONS, count), np.uint64)
    entry[:] = network.seeds[:, None]
    entry[0] += np.arange(first, first + count, dtype=np.uint64)
    state, total, rest = entry.copy(), np.empty_like(entry), np.empty_like(entry)
    for weights, biases in zip(network.weights, network.biases, strict=True):
        np.multiply(weights[:, :1], state[0], out=total)
        np.add(total, biases[:, None], out=total)
        for source in range(1, NEURONS):
            np.multiply(weights[:, source : source + 1], state[source], out=rest)
            np.add(total, rest, out=total)
        logistic(total, rest)
        rotate(rest, total)
        tent(total, rest)
        state, rest = rest, state
    state += entry
    return state


def logistic(x: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Compute x (2x + 1) mod 2^64: the logistic map's parabola, bijective on words (the map of RC6)."""
    np.left_shift(x, 1, out=out)
    np.bitwise_or(out, 1, out=out)
    np.multiply(out, x, out=out)


def rotate(x: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """Rotate left by 29 bits; `x` is overwritten."""
    np.left_shift(x, ROTATION, out=out)
    np.right_shift(x, 64 - ROTATION, out=x)
    np.bitwise_or(out, x, out=out)


def tent(x: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """2x below 2^63, else 2 (2^64 - 1 - x) + 1: the tent map, bijective on words; `x` is overwritten."""
    np.left_shift(x, 1, out=out)
    signs = x.view(np.int64)
    np.right_shift(signs, 63, out=signs)
    np.bitwise_xor(out, x, out=out)


def _tile_orders(
    tiles: NDArray[np.int64], pool: NDArray[np.int64], columns: int
) -> Iterator[tuple[int, NDArray[np.int64], int]]:
    """For each tile: where it begins in the flat grid, in which order it is read from there, where it goes."""
    doubled = np.concatenate([pool, pool], axis=1)
    steps = doubled // TILE * columns + doubled % TILE
    for row, column, height, width, chosen, cut, position in tiles.tolist():
        if height == width == TILE:
            order = steps[chosen, cut : cut + TILE_WORDS]
        else:
            cells = doubled[chosen, cut : cut + TILE_WORDS]
            cells = cells[cells < height * width]
            order = cells // width * columns + cells % width
        yield row * columns + column, order, position
