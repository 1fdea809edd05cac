"""The last sweep: its constants, and which pixel of one tile is which row before the sweeps down and up.

Images that differ from a flat one in one pixel give all of it, since the constants are the same in all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipher.analysis.equivalent_key.oracle import COLUMNS, ROWS, TILE, AttackFailed, Grid, Oracle
from cipher.analysis.equivalent_key.solvers import Ints, most_equal, q_tables
from cipher.analysis.equivalent_key.sweeps import Grids, undo_up
from cipher.analysis.version1_attacks import IMAGES, solve_last_sweep

_PIXELS = 40
"""Pixels that are tried for the sweep's constants, each with 6 images, before the attack gives up."""
_TILES = ROWS // TILE


@dataclass(frozen=True, slots=True, eq=False)
class Upward:
    """The last sweep."""

    forward: int
    sideways: int
    shift: int
    offset: Ints
    """(32,)"""
    q: Ints
    mask: int
    tile_images: dict[int, list[Grid]]
    """Cipher images that differ in one pixel of a tile, for each of the 32 tiles."""
    flat: Grid
    """The cipher image of the first base."""

    def undo(self, grids: Sequence[Grid] | Grids) -> Grids:
        """Undo it in some cipher images, but for its keys and in all rows but the last."""
        stacked = np.asarray(grids)
        out = np.empty(stacked.shape, np.uint16)
        undo_up(stacked, self.forward, self.sideways, self.shift, self.offset, self.q, self.mask, out)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Where the pixels of the last tile lie before the second sweep, in the last column."""

    shift: int
    """s of the second sweep."""
    pixel: Ints
    """(1024,): flat place of the pixel that is in each row; -1 where none was found."""


def solve_upward(oracle: Oracle) -> Upward:
    """Find the last sweep's constants: about 260 images.

    Raises:
        AttackFailed: no constants fit.
    """
    q, _ = q_tables(oracle.bits)
    mask = (1 << oracle.bits) - 1
    flat = oracle.change([], np.empty(0, np.int64))
    for _ in range(_PIXELS):
        pixel = [int(oracle.rng.integers(ROWS * COLUMNS))]
        images = [flat, *(oracle.change(pixel, value) for value in oracle.values(IMAGES - 1)[:, None])]
        solutions = solve_last_sweep(np.array(images)[:, :2].astype(np.int64), oracle.bits)
        if len(solutions) == 1:
            break
    else:
        raise AttackFailed
    found = solutions[0]
    tile_images = {
        tile: [oracle.change([pixel], oracle.values(1)) for pixel in oracle.pixels_of_tile(tile, 8)]
        for tile in range(_TILES)
    }
    some = np.array([flat, *(image for images in tile_images.values() for image in images[:2])]).astype(np.int64)
    offset = np.zeros(COLUMNS, np.int64)
    for column in range(COLUMNS):
        beside = some[:, 1, (column + found.shift) % COLUMNS]
        sums = (found.forward * some[:, 1, column] + found.sideways * beside) & mask
        offset[column], best, second = most_equal(some[:, 0, column].copy(), sums, q, mask)
        if best <= second:
            raise AttackFailed
    return Upward(found.forward, found.sideways, found.shift, offset, q, mask, tile_images, flat)


def find_rows(oracle: Oracle, upward: Upward) -> Rows:
    """Find the tile that is the last column, and the row of each of its pixels: 1,152 images."""
    flat = upward.undo([upward.flat])[0]

    def first_change(grid: NDArray[np.uint16]) -> tuple[int, int]:
        """First changed row, and how far from the right the rightmost change in it lies."""
        changed = (grid != flat)[: ROWS - 1]
        row = int(np.argmax(changed.any(1)))
        columns = np.flatnonzero(changed[row])
        if not columns.size:
            raise AttackFailed
        return row, COLUMNS - 1 - int(columns.max())

    def mean_row(images: list[Grid]) -> float:
        return float(np.mean([first_change(grid)[0] for grid in upward.undo(images)]))

    # A change in the last column reaches fewest rows before the sweep down, so its first row is the lowest on average.
    means = {tile: mean_row(images) for tile, images in upward.tile_images.items()}
    likely = sorted(means, key=lambda tile: -means[tile])[:4]
    last = max(
        likely,
        key=lambda tile: mean_row(
            [oracle.change([pixel], oracle.values(1)) for pixel in oracle.pixels_of_tile(tile, 32)]
        ),
    )
    pixels = oracle.pixels_of_tile(last)
    changes = np.array([first_change(upward.undo([oracle.change([pixel], oracle.values(1))])[0]) for pixel in pixels])
    # A change in row r, column C-1 reaches row r - k s in column C-1-k: the true s gives the pixels different rows.
    candidates = [(changes[:, 0] + changes[:, 1] * shift) % ROWS for shift in range(ROWS)]
    shift = int(np.argmax([np.unique(rows).size for rows in candidates]))
    pixel = np.full(ROWS, -1)
    pixel[candidates[shift]] = pixels
    return Rows(shift, pixel)
