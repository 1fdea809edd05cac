"""The third sweep and the last one's keys, from images whose changed rows are known.

Rows before the first changed one are the same as the flat image's, so a cell whose row is *clean* is a known constant
before the third sweep: its word after it is a function of the row above alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipher.analysis.equivalent_key.cell_keys import keys_by_low_bits, offset_and_key
from cipher.analysis.equivalent_key.line_keys import two_keys
from cipher.analysis.equivalent_key.oracle import COLUMNS, ROWS, AttackFailed, Grid, Oracle
from cipher.analysis.equivalent_key.solvers import Ints, linear, q_tables
from cipher.analysis.equivalent_key.sweeps import Grids, fit_down, undo_down
from cipher.analysis.equivalent_key.upward import Rows, Upward

_CAP = 1 << 17
_STARTS = (0, 1, 2, 3, 5)
"""Rows whose chains of changes the images follow."""


@dataclass(frozen=True, slots=True, eq=False)
class Families:
    """Images that differ from a flat one in pixels whose rows are known."""

    u: Grids
    """(images, 1024, 32): the last sweep undone but for its keys."""
    touched: NDArray[np.bool_]
    """(images, 1024, 32): cells before the third sweep that may differ from the base's."""
    base: Ints
    """(images,): number of the flat image."""

    def clean(self, row: int, column: int) -> Ints:
        """Numbers of images of the first base that are untouched in a cell."""
        return np.flatnonzero(~self.touched[:, row, column] & (self.base == 0))

    def words(self, images: Ints, row: int, column: int) -> Ints:
        """The images' words in one cell."""
        found: Ints = self.u[images, row, column].astype(np.int64)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Downward:
    """The third sweep, and the last one's keys."""

    upward: Upward
    families: Families
    rows: Rows
    forward: int
    sideways: int
    shift: int
    offset: Ints
    keys: Ints
    """(1024, 32)"""
    addends: Ints
    """(32,): what the last row still lacks."""
    parity: Ints
    before: Grids
    """(images, 1024, 32): the families' words before the third sweep, under its keys."""
    bits: int

    def undo(self, grids: list[Grid]) -> Grids:
        """Undo the last two sweeps in some cipher images, but for the third one's keys."""
        u = self.upward.undo(grids)
        y, v = np.empty(u.shape, np.uint16), np.empty(u.shape, np.uint16)
        undo_down(
            u, y, v, self.forward, self.sideways, self.shift, self.offset, self.keys, self.addends, self.parity,
            self.upward.q, self.bits,
        )  # fmt: skip
        return v


def solve_downward(oracle: Oracle, upward: Upward, rows: Rows) -> Downward:
    """Find the third sweep's constants and the last one's keys.

    Raises:
        AttackFailed: nothing fits.
    """
    families, shift = _make_families(oracle, upward, rows)
    solver = _Solver(oracle, families, shift)
    forward, sideways = solver.find_factors()
    offset, keys = solver.find_offsets(forward, sideways)
    solver.find_first_keys(forward, sideways, offset, keys)
    parity = np.zeros((ROWS, COLUMNS), np.int64)
    y, v = np.empty(families.u.shape, np.uint16), np.empty(families.u.shape, np.uint16)
    y[:, 0] = families.u[:, 0] ^ keys[0].astype(np.uint16)
    addends, _ = fit_down(
        families.u, families.touched, families.base, y, v, forward, sideways, shift, offset, keys, parity,
        upward.q, oracle.bits,
    )  # fmt: skip
    return Downward(
        upward, families, rows, forward, sideways, shift, offset, keys, addends, parity, v, oracle.bits
    )  # fmt: skip


def _touched(changed: Ints, shift: int) -> NDArray[np.bool_]:
    """Cells that changed rows of the last column reach in the second sweep: (1024, 32)."""
    hit = np.zeros(ROWS, np.bool_)
    hit[changed] = True
    cells = np.zeros((ROWS, COLUMNS), np.bool_)
    reached = np.zeros(ROWS, np.bool_)
    for distance in range(COLUMNS):
        reached = reached | np.roll(hit, -distance * shift)
        cells[:, COLUMNS - 1 - distance] = reached
    return cells


def _make_families(oracle: Oracle, upward: Upward, rows: Rows) -> tuple[Families, int]:
    """Images of four bases, and s of the third sweep; for words of 16 bits more images by that s."""
    rng, shift = oracle.rng, rows.shift
    images: list[Grid] = [upward.undo([upward.flat])[0]]
    touched, base = [np.zeros((ROWS, COLUMNS), np.bool_)], [0]

    def add(changed: list[int] | Ints, number: int = 0) -> None:
        known = np.array([row for row in changed if rows.pixel[row] >= 0], np.int64)
        image = oracle.change(rows.pixel[known], oracle.values(known.size), number)
        images.append(upward.undo([image])[0])
        touched.append(_touched(known, shift))
        base.append(number)

    def add_chain(start: int, first: int, number: int = 0) -> None:
        add([(start + step * shift) % ROWS for step in range(first, COLUMNS) if rng.random() < 0.5], number)

    for number, in_chains, spread, changed in ((0, 120, 300, 64), (1, 24, 40, 48), (2, 24, 40, 48), (3, 24, 40, 48)):
        for start in _STARTS:
            for _ in range(in_chains):
                add_chain(start, 0, number)
        for _ in range(spread):
            add(rng.choice(ROWS, changed, replace=False), number)
    found = Families(np.array(images), np.array(touched), np.array(base))
    third_shift = _find_shift(found)
    if oracle.bits == 8:
        return found, third_shift
    # Words of 16 bits need more images that change a cell and not the one beside it that is added to it.
    for threshold in range(1, COLUMNS, min(third_shift, COLUMNS - third_shift)):
        for _ in range(130):
            rest = [(step * shift) % ROWS for step in range(threshold + 1, COLUMNS) if rng.random() < 0.5]
            add([threshold * shift % ROWS, *rest])
    return Families(np.array(images), np.array(touched), np.array(base)), third_shift


def _find_shift(families: Families) -> int:
    """Find s of the third sweep: where (1, c) and (0, c) are clean, (1, c) changes if and only if (0, c + s) does."""
    score = np.zeros(COLUMNS)
    for shift in range(1, COLUMNS):
        for column in range(COLUMNS):
            chosen = families.clean(1, column)
            chosen = chosen[~families.touched[chosen, 0, column]]
            changed = families.u[chosen, 1, column] != families.u[0, 1, column]
            score[shift] += np.mean(changed == families.touched[chosen, 0, (column + shift) % COLUMNS])
    return int(np.argmax(score))


class _Solver:
    """Finds the third sweep's constants and the first rows' keys."""

    def __init__(self, oracle: Oracle, families: Families, shift: int) -> None:
        self._rng, self._bits = oracle.rng, oracle.bits
        self._families, self._shift = families, shift
        self._q, self._inverse = q_tables(oracle.bits)
        self._mask, self._top = (1 << oracle.bits) - 1, 1 << (oracle.bits - 1)
        self._first: dict[int, tuple[Ints, Ints]] = {
            column: self._candidates(1, column, by_parity=True) for column in range(COLUMNS)
        }
        """For each column clean images of row 1, and (k, K) of its cell."""
        self._keys = {column: np.unique(found[:, 0] & (self._mask >> 1)) for column, (_, found) in self._first.items()}

    def _beside(self, column: int) -> int:
        return (column + self._shift) % COLUMNS

    def _candidates(self, row: int, column: int, *, by_parity: bool = False) -> tuple[Ints, Ints]:
        """Clean images of a cell, and all (k, K) that fit the low halves of the words above it."""
        low, half = (1 << self._bits // 2) - 1, self._bits // 2
        images = self._families.clean(row, column)
        word = self._families.words(images, row, column)
        above = self._families.words(images, row - 1, column)
        beside = self._families.words(images, row - 1, self._beside(column))
        found = keys_by_low_bits(word, (above & low) << half | (beside & low), self._bits, _CAP)
        if by_parity and len(found):
            # v is a sum with odd factors: its lowest bit is the parity of the two words' lowest bits.
            parity = (above ^ beside) & 1
            fits = [np.ptp((self._inverse[(word ^ k) - c & self._mask] & 1) ^ parity) == 0 for k, c in found.tolist()]
            found = found[np.array(fits)]
        return images, found

    def _solve_cell(self, row: int, column: int, keys: Ints, keys_beside: Ints) -> set[tuple[int, int, int]]:
        """(a, b, k) of a cell, given candidates for the keys of the two words above it."""
        images, candidates = self._candidates(row, column)
        word = self._families.words(images, row, column)
        above = self._families.words(images, row - 1, column)
        beside = self._families.words(images, row - 1, self._beside(column))
        pairs = np.unique(candidates & (self._mask >> 1), axis=0).tolist()
        found = set()
        for key in keys.tolist():
            for key_beside in keys_beside.tolist():
                for k, constant in pairs:
                    for top in (0, self._top):
                        v = self._inverse[(word ^ k) - (constant ^ top) & self._mask]
                        fits, a, b, _ = linear(v, above ^ key, beside ^ key_beside, self._mask)
                        if fits:
                            found.add((int(a), int(b), int(k)))
        return found

    def find_factors(self) -> tuple[int, int]:
        """Find a and b, from rows 2 and 3 of a column: in one row alone (k, a) and (not k, -a) are the same."""

        def cost(column: int) -> int:
            second, third = self._beside(column), self._beside(self._beside(column))
            return self._keys[column].size * self._keys[second].size * self._keys[third].size

        for column in sorted(range(COLUMNS), key=cost):
            if not cost(column):
                continue
            second, third = self._beside(column), self._beside(self._beside(column))
            keys = {k for _, _, k in self._solve_cell(2, column, self._keys[column], self._keys[second])}
            beside = {k for _, _, k in self._solve_cell(2, second, self._keys[second], self._keys[third])}
            if len(keys) == len(beside) == 1:
                found = {(a, b) for a, b, _ in self._solve_cell(3, column, np.array([*keys]), np.array([*beside]))}
                if len(found) == 1:
                    return found.pop()
        raise AttackFailed

    def _of_all_bases(self, row: int, column: int, most: int = 400) -> Ints:
        """Some clean images of a cell: of the first base up to `most`, of each other a quarter as many."""
        clean = np.flatnonzero(~self._families.touched[:, row, column])
        base = self._families.base[clean]
        parts = [self._rng.permutation(clean[base == 0])[:most]]
        parts += [clean[base == number][: most // 4] for number in (1, 2, 3)]
        return np.concatenate(parts)

    def find_offsets(self, forward: int, sideways: int) -> tuple[Ints, Ints]:
        """Find d of each column, and keys of rows 1 and 2: (d, keys)."""
        offset, keys = np.full(COLUMNS, -1), np.zeros((ROWS, COLUMNS), np.int64)
        known = {column: found for column, found in self._keys.items() if found.size}
        for column in range(COLUMNS):
            beside = self._beside(column)
            images = self._of_all_bases(2, column)
            word = self._families.words(images, 2, column)
            y, x = self._families.words(images, 1, column), self._families.words(images, 1, beside)
            found = set()
            for key in known.get(column, np.empty(0, np.int64)).tolist():
                for key_beside in known.get(beside, np.empty(0, np.int64)).tolist():
                    sums = forward * (y ^ key) + sideways * (x ^ key_beside) & self._mask
                    solved = offset_and_key(word, sums, self._families.base[images], self._bits, 4096)
                    found |= {(key, key_beside, d, k) for d, k in solved.tolist()}
            if len(found) != 1:
                raise AttackFailed
            key, key_beside, offset[column], keys[2, column] = found.pop()
            keys[1, column], keys[1, beside] = key, key_beside
            known[column], known[beside] = np.array([key]), np.array([key_beside])
        return offset, keys

    def find_first_keys(self, forward: int, sideways: int, offset: Ints, keys: Ints) -> None:
        """Find the keys of row 0: a column's key appears in its own cell's sum and in that of the column before."""
        found: list[set[tuple[int, int]]] = []
        for column in range(COLUMNS):
            images, candidates = self._first[column]
            word, solutions = self._families.words(images, 1, column), set()
            y, x = self._families.words(images, 0, column), self._families.words(images, 0, self._beside(column))
            for k, constant in np.unique(candidates & (self._mask >> 1), axis=0).tolist():
                if k != keys[1, column]:
                    continue
                for top in (0, self._top):
                    v = self._inverse[(word ^ k) - (constant ^ top) & self._mask]
                    solved = two_keys(v, y, x, forward, sideways, int(offset[column]), self._bits, 4096)
                    solutions |= {(own, beside) for own, beside in solved.tolist()}
            found.append(solutions)
        for column in range(COLUMNS):
            both = {own for own, _ in found[column]} & {beside for _, beside in found[column - self._shift]}
            if not both:
                raise AttackFailed
            keys[0, column] = min(both)
