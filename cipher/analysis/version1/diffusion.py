"""Step 5, diffusion: every word is altered by all others, in four sweeps along both directions.

The vector of step 5.1 fills the grid column by column. Step 5.2 then alters it horizontally (a sweep over the columns
from left to right, one back) and vertically (down, and up), each stage under its own network (step 5.3). The first
and the last sweep add a key stream as long as the image; the two between them a word for each line.

Two sweeps are not enough: a change in the last line of a sweep has not spread yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cipher.algorithm.words import Words
from cipher.analysis.version1.engine import Sweep, VectorisedEngine
from cipher.analysis.version1.keystream import KeyStream

_KEYS_AT_ONCE = 1 << 17
"""Bytes of key stream made ahead of a sweep: they stay in the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Alteration:
    """The keyed constants of one stage: a sweep in each direction."""

    onward: Sweep
    back: Sweep
    line_keys: Words
    """(rows, 1): key words of the sweep that has no full key stream."""


def draw_alteration(stream: KeyStream, rows: int, columns: int, bits: int) -> Alteration:
    """Read a stage's constants from the beginning of its key stream.

    In this order: for each of the two sweeps three 64-bit words (a, b, s), and a row each for d and c[-1]; then one
    word a row. Rows are padded to 8 bytes.
    """
    onward = _draw_sweep(stream, columns, bits)
    back = _draw_sweep(stream, columns, bits)
    return Alteration(onward, back, _draw_row(stream, rows, bits).reshape(rows, 1))


def alter(grid: Words, stream: KeyStream, engine: VectorisedEngine, *, full_first: bool) -> None:
    """Apply one stage of step 5.2, in place: a sweep over the rows, first to last, and one back.

    Args:
        grid: (rows, columns).
        stream: the stage's key stream, from its beginning.
        engine: the loops.
        full_first: whether the onward sweep or the backward one gets the key stream as long as the grid.
    """
    for _ in alter_by_sweeps(grid, stream, engine, full_first=full_first):
        pass


def alter_by_sweeps(grid: Words, stream: KeyStream, engine: VectorisedEngine, *, full_first: bool) -> Iterator[range]:
    """As `alter`, stopping after each of the two sweeps to give the rows in the order of that sweep."""
    rows, columns = grid.shape
    constants = draw_alteration(stream, rows, columns, 8 * grid.itemsize)
    down, up = range(rows), range(rows - 1, -1, -1)
    if full_first:
        _sweep_with_stream(grid, down, stream, engine, constants.onward)
        yield down
        engine.alter(grid, up, constants.line_keys, constants.back.start, constants.back)
    else:
        engine.alter(grid, down, constants.line_keys, constants.onward.start, constants.onward)
        yield down
        _sweep_with_stream(grid, up, stream, engine, constants.back)
    yield up


def restore(grid: Words, stream: KeyStream, engine: VectorisedEngine, *, full_first: bool) -> None:
    """The inverse of `alter` with the same arguments."""
    rows, columns = grid.shape
    constants = draw_alteration(stream, rows, columns, 8 * grid.itemsize)
    down, up = range(rows), range(rows - 1, -1, -1)
    if full_first:
        engine.restore(grid, up, constants.line_keys, constants.back.start, constants.back)
        _unsweep_with_stream(grid, down, stream, engine, constants.onward)
    else:
        _unsweep_with_stream(grid, up, stream, engine, constants.back)
        engine.restore(grid, down, constants.line_keys, constants.onward.start, constants.onward)


def _sweep_with_stream(grid: Words, rows: range, stream: KeyStream, engine: VectorisedEngine, sweep: Sweep) -> None:
    before = sweep.start
    for part, keys in _key_rows(grid, rows, stream):
        before = engine.alter(grid, part, keys, before, sweep)


def _unsweep_with_stream(grid: Words, rows: range, stream: KeyStream, engine: VectorisedEngine, sweep: Sweep) -> None:
    before = sweep.start
    for part, keys in _key_rows(grid, rows, stream):
        before = engine.restore(grid, part, keys, before, sweep)


def _key_rows(grid: Words, rows: range, stream: KeyStream) -> Iterator[tuple[range, Words]]:
    """Some rows at a time, with their key stream: (part of rows, (len(part), columns) words)."""
    columns = grid.shape[1]
    at_once = max(1, _KEYS_AT_ONCE // (columns * grid.itemsize))
    for first in range(0, len(rows), at_once):
        part = rows[first : first + at_once]
        yield part, stream.read(len(part) * columns, 8 * grid.itemsize).reshape(len(part), columns)


def _draw_sweep(stream: KeyStream, columns: int, bits: int) -> Sweep:
    forward, sideways, shift = (int(word) for word in stream.read_wide(3))
    mask = (1 << bits) - 1
    offset, start = _draw_row(stream, columns, bits), _draw_row(stream, columns, bits)
    if columns == 1:
        return Sweep((forward | 1) & mask, 0, 0, offset, start)
    return Sweep((forward | 1) & mask, (sideways | 1) & mask, 1 + (shift >> 32) % (columns - 1), offset, start)


def _draw_row(stream: KeyStream, count: int, bits: int) -> Words:
    padded = -(-count * bits // 64) * 64 // bits
    return stream.read(padded, bits)[:count].copy()
