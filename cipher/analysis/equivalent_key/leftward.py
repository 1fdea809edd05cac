"""The second sweep: one key word a row, found from row to row.

In every image of the families the words before this sweep are the base's, but for the last column: all cells are
clean. Keys of some rows come from low bits alone, the rest along chains of rows: a row's key gives those of the rows
that its cells are added to.
"""

from dataclasses import dataclass

import numpy as np

from cipher.analysis.equivalent_key.cell_keys import find_addend_and_key, keys_by_low_bits, offset_and_key
from cipher.analysis.equivalent_key.downward import Downward
from cipher.analysis.equivalent_key.line_keys import addend_key_offset, key_and_offset_of_row
from cipher.analysis.equivalent_key.oracle import COLUMNS, ROWS, AttackFailed, Grid, Oracle, most_voted
from cipher.analysis.equivalent_key.solvers import Ints, constants_by_lowest_bit, linear, q_tables
from cipher.analysis.equivalent_key.sweeps import Grids, fit_left, undo_left

_CAP = 1 << 17
_EDGES = (0, ROWS - 1)
"""Rows whose words still lack an addend for each column: the third sweep begins and the fourth ends there."""
_TRIED_COLUMNS = (12, 20, 6, 27, 16, 9, 23)


@dataclass(slots=True, eq=False)
class Leftward:
    """The second sweep."""

    downward: Downward
    shift: int
    bits: int
    forward: int
    sideways: int
    keys: Ints
    """(1024,)"""
    offset: Ints
    """(1024,)"""
    addends: Ints
    """(1024, 32): zero but in the rows at the edges."""
    parity: Ints
    open_addends: dict[int, list[int]]
    """For the rows at the edges: addends of the first column that are still possible."""

    def undo(self, grids: list[Grid]) -> Grids:
        """Undo the last three sweeps in some cipher images, but for the second one's keys."""
        v = self.downward.undo(grids)
        out = np.empty(v.shape, np.uint16)
        undo_left(
            v, self.keys, self.addends, self.forward, self.sideways, self.shift, self.offset, self.parity,
            self.downward.upward.q, self.bits, out,
        )  # fmt: skip
        return out


def solve_leftward(oracle: Oracle, downward: Downward) -> Leftward:
    """Find the second sweep's constants; no further image is needed.

    Raises:
        AttackFailed: nothing fits.
    """
    solver = _Solver(oracle, downward)
    exact, (forward, sideways) = solver.find_factors()
    keys, offset = solver.follow_chains(exact, forward, sideways)
    found = Leftward(
        downward, downward.rows.shift, oracle.bits, forward, sideways, keys, offset,
        np.zeros((ROWS, COLUMNS), np.int64), np.zeros((ROWS, COLUMNS), np.int64), {},
    )  # fmt: skip
    for edge in _EDGES:
        solver.find_edge(found, edge)
    for edge in _EDGES:
        solver.find_edge_offset(found, edge)
    fit_left(
        downward.before, downward.families.base, keys, found.addends, forward, sideways, found.shift, offset,
        found.parity, downward.upward.q, oracle.bits,
    )  # fmt: skip
    return found


class _Solver:
    def __init__(self, oracle: Oracle, downward: Downward) -> None:
        self._rng, self._bits, self._shift = oracle.rng, oracle.bits, downward.rows.shift
        self._v, self._touched, self._base = downward.before, downward.families.touched, downward.families.base
        self._first_base = np.flatnonzero(self._base == 0)
        self._q, self._inverse = q_tables(oracle.bits)
        self._mask, self._top = (1 << oracle.bits) - 1, 1 << (oracle.bits - 1)

    def _words(self, images: Ints, row: int, column: int) -> Ints:
        found: Ints = self._v[images, row % ROWS, column].astype(np.int64)
        return found

    def _sources(self, row: int, column: int) -> tuple[Ints, Ints, Ints]:
        """Words of a cell and of the two that are added to it, in the images of the first base."""
        images = self._first_base
        beside, below = self._words(images, row, column + 1), self._words(images, row + self._shift, column + 1)
        return self._words(images, row, column), beside, below

    def _candidates(self, row: int, column: int) -> list[tuple[int, int]]:
        """All (k, K) of a cell that fit the low halves and the lowest bits of the two words added to it."""
        low, half = (1 << self._bits // 2) - 1, self._bits // 2
        word, beside, below = self._sources(row, column)
        found = keys_by_low_bits(word, (beside & low) << half | (below & low), self._bits, _CAP)
        parity = (beside ^ below) & 1
        return [
            (k, constant)
            for k, constant in np.unique(found & (self._mask >> 1), axis=0).tolist()
            if np.ptp((self._inverse[(word ^ k) - constant & self._mask] & 1) ^ parity) == 0
        ]

    def find_factors(self) -> tuple[dict[int, int], tuple[int, int]]:
        """Find the keys of some rows, and a and b."""
        candidates: dict[int, tuple[int, list[tuple[int, int]]]] = {}
        for row in range(1, ROWS - 1):
            if (row + self._shift) % ROWS in _EDGES:
                continue
            best: tuple[int, list[tuple[int, int]]] | None = None
            for column in _TRIED_COLUMNS:
                found = self._candidates(row, column)
                if found and (best is None or len(found) < len(best[1])):
                    best = column, found
                if best and len({k for k, _ in best[1]}) <= 2:
                    break
            if best:
                candidates[row] = best
        keys: dict[int, int] = {}

        def solve(row: int) -> set[tuple[int, int, int]]:
            """(a, b, k) of a row."""
            column, found = candidates[row]
            below_row = (row + self._shift) % ROWS
            if below_row in keys:
                others = [keys[below_row]]
            else:
                others = sorted({k for k, _ in candidates[below_row][1]}) if below_row in candidates else []
            word, beside, below = self._sources(row, column)
            solved = set()
            for k, constant in found:
                for other in others:
                    for top in (0, self._top):
                        v = self._inverse[(word ^ k) - (constant ^ top) & self._mask]
                        fits, a, b, _ = linear(v, beside ^ k, below ^ other, self._mask)
                        if fits:
                            solved.add((int(a), int(b), k))
            return solved

        exact = {}
        for row in candidates:
            possible = {k for _, _, k in solve(row)}
            if len(possible) == 1:
                exact[row] = possible.pop()
        keys.update(exact)
        votes: dict[tuple[int, int], int] = {}
        for row in list(exact)[:200]:
            if (row + self._shift) % ROWS in exact:
                for a, b, _ in solve(row):
                    votes[a, b] = votes.get((a, b), 0) + 1
        return exact, most_voted(votes)

    def follow_chains(self, exact: dict[int, int], forward: int, sideways: int) -> tuple[Ints, Ints]:
        """Find all rows' keys and offsets but those at the edges: (keys, offset), -1 where none was found."""
        keys, offset = np.full(ROWS, -1), np.full(ROWS, -1)
        for row, key in exact.items():
            keys[row] = key
        to_do, tried = list(exact), set()
        while to_do:
            row = to_do.pop()
            for onward in (True, False):
                upper = row if onward else (row - self._shift) % ROWS
                lower = (upper + self._shift) % ROWS
                new = lower if onward else upper
                if upper in _EDGES or lower in _EDGES or upper in tried or offset[upper] >= 0:
                    continue
                tried.add(upper)
                solved: Ints = np.empty((0, 2), np.int64)
                for attempt in range(4):
                    cells = self._cells_of_row(upper, 14 + 6 * attempt)
                    solved = key_and_offset_of_row(
                        *cells, onward, int(keys[row]), forward, sideways, self._q, self._bits, 1 << 15
                    )
                    solved = np.unique(solved & (self._mask >> 1), axis=0)
                    if len(solved) == 1:
                        break
                if len(solved) == 1:
                    offset[upper] = solved[0, 1]
                    if keys[new] < 0:
                        keys[new] = solved[0, 0]
                        to_do.append(new)
                elif len(solved) > 1:
                    tried.discard(upper)
        return keys, offset

    def _cells_of_row(self, row: int, columns: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Words of some of a row's cells, the words added to them, and the number of cell and base."""
        below = (row + self._shift) % ROWS
        parts: list[tuple[Ints, Ints, Ints, Ints]] = []
        for column in self._rng.permutation(COLUMNS - 1)[:columns].tolist():
            varied = self._varied(row, below, column)
            for number in range(4):
                images = self._rng.permutation(varied[self._base[varied] == number])[: 24 if number == 0 else 8]
                if images.size > 1:
                    parts.append(
                        (
                            self._words(images, row, column),
                            self._words(images, row, column + 1),
                            self._words(images, below, column + 1),
                            np.full(images.size, column * 4 + number),
                        )
                    )
        if not parts:
            raise AttackFailed
        word, beside, other, cell = (np.concatenate(found) for found in zip(*parts, strict=True))
        return word, beside, other, cell

    def _varied(self, row: int, below: int, column: int) -> Ints:
        """Images in which a cell or one of the two words that are added to it may differ from the base's."""
        touched = self._touched
        return np.flatnonzero(touched[:, row, column] | touched[:, row, column + 1] | touched[:, below, column + 1])

    def _whole(self, found: Leftward, images: Ints, row: int, column: int) -> Ints:
        """Words after the second sweep, their keys and addends removed."""
        row %= ROWS
        words: Ints = ((self._words(images, row, column) - found.addends[row, column]) & self._mask) ^ found.keys[row]
        return words

    def find_edge(self, found: Leftward, edge: int) -> None:
        """Find a row's key and its addends from column 1 on, and the offset of the row that it is added to."""
        row = (edge - self._shift) % ROWS
        if row in _EDGES or found.keys[row] < 0:
            raise AttackFailed
        solutions: dict[int, set[tuple[int, int, int]]] = {}
        for column in range(COLUMNS - 1):
            images = self._varied(row, edge, column)
            images = images[self._base[images] == 0]
            if images.size < 2:
                continue
            word, beside = self._whole(found, images, row, column), self._whole(found, images, row, column + 1)
            below = self._words(images, edge, column + 1)
            solved = set()
            for constant in constants_by_lowest_bit(word, (beside ^ below) & 1, self._inverse, self._mask, 4096):
                for top in (0, self._top):
                    v = self._inverse[(word - (constant ^ top)) & self._mask]
                    rest = (v - found.forward * beside) & self._mask
                    for e, k, d in addend_key_offset(below, rest, found.sideways, self._bits, 1 << 14).tolist():
                        solved.add((k, d, e))
            solutions[column] = solved
        votes: dict[tuple[int, int], int] = {}
        for solved in solutions.values():
            for pair in {(k, d) for k, d, _ in solved}:
                votes[pair] = votes.get(pair, 0) + 1
        key, offset = most_voted(votes)
        found.keys[edge], found.offset[row] = key, offset
        for column, solved in solutions.items():
            addends = sorted(e for k, d, e in solved if (k, d) == (key, offset))
            found.addends[edge, column + 1] = addends[0] if addends else 0

    def find_edge_offset(self, found: Leftward, edge: int) -> None:
        """Find the offset of a row at the edge, and the addend of its first column."""
        below = (edge + self._shift) % ROWS

        def some(column: int) -> Ints:
            images = self._varied(edge, below, column)
            return np.concatenate([images[self._base[images] == number][:120] for number in range(4)])

        def sums(images: Ints, column: int) -> Ints:
            beside, other = self._whole(found, images, edge, column), self._whole(found, images, below, column)
            added: Ints = (found.forward * beside + found.sideways * other) & self._mask
            return added

        votes: dict[int, int] = {}
        for column in range(1, COLUMNS - 1):
            images = some(column)
            word = self._whole(found, images, edge, column)
            solved = offset_and_key(word, sums(images, column + 1), self._base[images], self._bits, 8192)
            for d in {d & (self._mask >> 1) for d, k in solved.tolist() if k == 0}:
                votes[d] = votes.get(d, 0) + 1
        found.offset[edge] = most_voted(votes)
        images = some(0)
        v = (sums(images, 1) + found.offset[edge]) & self._mask
        addends = set()
        for top in (0, self._top):
            solved = find_addend_and_key(
                self._words(images, edge, 0), self._q[v ^ top], self._base[images], self._bits, 8192
            )
            addends |= {e for e, k in solved.tolist() if k == found.keys[edge] & (self._mask >> 1)}
        found.open_addends[edge] = sorted(addends)
        found.addends[edge, 0] = min(addends, default=0)
