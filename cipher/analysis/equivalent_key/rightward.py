"""The first sweep, from images that vary one tile, and then the order of the pixels from images that count."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cipher.analysis.equivalent_key.cell_keys import (
    find_addend_and_key,
    find_only_key,
    keys_by_low_bits,
    offset_and_key,
)
from cipher.analysis.equivalent_key.leftward import Leftward
from cipher.analysis.equivalent_key.line_keys import key_then_addend, two_keys
from cipher.analysis.equivalent_key.oracle import COLUMNS, ROWS, AttackFailed, Grid, Oracle, most_voted
from cipher.analysis.equivalent_key.solvers import Ints, constants_by_lowest_bit, linear, q_tables
from cipher.analysis.equivalent_key.sweeps import Grids, fit_right, undo_right

_CAP = 1 << 17
_LAST = COLUMNS - 1
_EDGES = (0, ROWS - 1)


@dataclass(slots=True, eq=False)
class Rightward:
    """The first sweep, the second one's keys, and the order of the pixels."""

    leftward: Leftward
    forward: int
    sideways: int
    shift: int
    offset: Ints
    column_keys: Ints
    """(32,): keys of the second sweep."""
    first_addends: Ints
    last_addends: Ints
    parity: Ints
    keys: Ints
    """(1024, 32): keys of the first sweep."""

    def undo(self, cipher_image: Grid) -> Ints:
        """The words that confusion left, in the order of the vector: (32768,)."""
        grid = undo_right(
            self.leftward.undo([cipher_image])[0], self.column_keys, self.first_addends, self.last_addends,
            self.forward, self.sideways, self.shift, self.offset, self.parity, self.keys,
            self.leftward.downward.upward.q, self.leftward.bits,
        )  # fmt: skip
        return np.ascontiguousarray(grid.T).reshape(-1)


def solve_rightward(oracle: Oracle, leftward: Leftward) -> Rightward:
    """Find the first sweep's constants and all keys that are left: about 370 images.

    Raises:
        AttackFailed: nothing fits.
    """
    return _Solver(oracle, leftward).solve()


def find_order(oracle: Oracle, rightward: Rightward) -> Ints:
    """Find the flat place of the pixel at each place of the vector, from images that count: one, or two of 8 bits."""
    places = np.arange(ROWS * COLUMNS)
    if oracle.bits == 16:
        return rightward.undo(oracle.encipher(places.astype(np.uint16)))
    low, high = (rightward.undo(oracle.encipher(digit.astype(np.uint8))) for digit in (places & 255, places >> 8))
    return low | high << 8


class _Solver:
    """The images that vary the tile which is the first column, with all later sweeps undone."""

    def __init__(self, oracle: Oracle, leftward: Leftward) -> None:
        self._oracle, self._leftward, self._bits, self._rng = oracle, leftward, oracle.bits, oracle.rng
        self._q, self._inverse = q_tables(oracle.bits)
        self._mask, self._top = (1 << oracle.bits) - 1, 1 << (oracle.bits - 1)
        upward = leftward.downward.upward
        self._flat = leftward.undo([upward.flat])[0]

        def first_change(tile: int) -> int:
            changed = (leftward.undo(upward.tile_images[tile][:2]) != self._flat).any((0, 1))
            return int(np.argmax(changed))

        tile = min(upward.tile_images, key=first_change)
        pixels = np.array(oracle.pixels_of_tile(tile))
        images: list[Grid] = []
        base: list[int] = []
        values: list[Ints] = []
        for number, count in enumerate((240, 40, 40, 40)):
            for index in range(count + 1):
                value = np.full(pixels.size, oracle.bases[number], np.int64)
                if index:
                    chosen = self._rng.permutation(pixels.size)[:220]
                    value[chosen] = oracle.values(220)
                images.append(oracle.change(pixels, value, number))
                base.append(number)
                values.append(value)
        self._w: Grids = leftward.undo(images)
        self._base, self._values = np.array(base), np.array(values)
        self._outside = np.array([oracle.bases[number] for number in base])
        """The plain words of all other columns, for each image."""
        self._order = np.argsort(self._base, kind="stable")
        self._first_base = np.flatnonzero(self._base == 0)
        single = leftward.undo([oracle.change(pixels[5:6], oracle.values(1))])[0] != self._flat
        first, second = np.flatnonzero(single[:, 0]), np.flatnonzero(single[:, 1])
        if not first.size or second.size != 2 or first[0] not in second:
            raise AttackFailed
        self._shift = int((first[0] - second[second != first[0]][0]) % ROWS)

    def _words(self, images: Ints, row: int, column: int) -> Ints:
        found: Ints = self._w[images, row % ROWS, column].astype(np.int64)
        return found

    def solve(self) -> Rightward:
        candidates = {column: self._column_candidates(column) for column in (1, 2, 3)}
        self._column_keys = np.full(COLUMNS, -1)
        self._forward, self._sideways = self._find_factors(candidates)
        self._offset = np.full(ROWS, -1)
        open_addends = {edge: self._open_edge_addends(edge) for edge in _EDGES}
        for row in range(ROWS):
            common = self._offsets(row, 2) & self._offsets(row, 3)
            self._offset[row] = common.pop() if len(common) == 1 else -1
        open_rows = np.flatnonzero(self._offset < 0).tolist()
        for column in range(4, _LAST):
            self._column_keys[column] = self._vote_column_key(column)
        for row in open_rows:
            self._offset[row] = self._vote_offset(row, 4)
        for edge in _EDGES:
            self._choose_edge_addends(edge, open_addends[edge])
        for edge in _EDGES:
            row = (edge - self._shift) % ROWS
            self._offset[row] = self._vote_offset(row, 2, default=int(self._offset[row]))
        self._column_keys[0] = self._find_first_column_key()
        for edge in _EDGES:
            self._choose_first_addend(edge)
        last_addends = self._find_last_column()
        keys, first_addends = self._find_first_column()
        found = Rightward(
            self._leftward, self._forward, self._sideways, self._shift, self._offset, self._column_keys, first_addends,
            last_addends, np.zeros((ROWS, COLUMNS), np.int64), keys,
        )  # fmt: skip
        fit_right(
            self._w, self._outside, self._column_keys, last_addends, self._forward, self._sideways, self._shift,
            self._offset, found.parity, keys, self._q, self._bits,
        )  # fmt: skip
        found.parity[found.parity < 0] = 0
        return found

    def _column_candidates(self, column: int) -> tuple[set[int], list[tuple[int, list[tuple[int, int]]]]]:
        """Candidates for a column's key, and (row, its (k, K)) of the rows that gave them."""
        low, half = (1 << self._bits // 2) - 1, self._bits // 2
        common: set[int] | None = None
        rows: list[tuple[int, list[tuple[int, int]]]] = []
        for row in self._rng.permutation(ROWS)[:200].tolist():
            word, beside, below = self._sources(self._first_base, row, column)
            solved = keys_by_low_bits(word, (beside & low) << half | (below & low), self._bits, _CAP)
            parity = (beside ^ below) & 1
            found = [
                (k, constant)
                for k, constant in np.unique(solved & (self._mask >> 1), axis=0).tolist()
                if np.ptp((self._inverse[(word ^ k) - constant & self._mask] & 1) ^ parity) == 0
            ]
            if not found:
                continue
            keys = {k for k, _ in found} | {~k & (self._mask >> 1) for k, _ in found}
            common = keys if common is None else common & keys
            rows.append((row, found))
            if len(common) <= 2 and len(rows) >= 3:
                break
        return common or set(), rows

    def _sources(self, images: Ints, row: int, column: int) -> tuple[Ints, Ints, Ints]:
        """Words of a cell and of the two in the column before that are added to it, under their keys."""
        beside, below = self._words(images, row, column - 1), self._words(images, row + self._shift, column - 1)
        return self._words(images, row, column), beside, below

    def _find_factors(
        self, candidates: dict[int, tuple[set[int], list[tuple[int, list[tuple[int, int]]]]]]
    ) -> tuple[int, int]:
        """Find a and b, and the keys of columns 1 to 3."""

        def solve(column: int, keys_before: set[int], keys: set[int]) -> dict[tuple[int, int, int, int], int]:
            """Votes for (a, b, key of the column, key of the one before)."""
            votes: dict[tuple[int, int, int, int], int] = {}
            for row, found in candidates[column][1]:
                word, beside, below = self._sources(self._first_base, row, column)
                for k, constant in found:
                    if k not in keys:
                        continue
                    for before in keys_before:
                        for top in (0, self._top):
                            v = self._inverse[(word ^ k) - (constant ^ top) & self._mask]
                            fits, a, b, _ = linear(v, beside ^ before, below ^ before, self._mask)
                            if fits:
                                votes[a, b, k, before] = votes.get((a, b, k, before), 0) + 1
            return votes

        second = solve(2, candidates[1][0], candidates[2][0])
        forward, sideways, third, before = most_voted(solve(3, {k for _, _, k, _ in second}, candidates[3][0]))
        firsts = [k1 for a, b, k, k1 in second if (a, b, k) == (forward, sideways, before)]
        if not firsts:
            raise AttackFailed
        self._column_keys[1:4] = firsts[0], before, third
        return int(forward), int(sideways)

    def _sums(self, images: Ints, row: int, column: int, addend: int = 0) -> Ints:
        """Sum that q is given in a cell, without its offset; `addend` is added to the word of the same row."""
        _, beside, below = self._sources(images, row, column)
        key = self._column_keys[column - 1]
        found: Ints = (
            self._forward * (((beside + addend) & self._mask) ^ key) + self._sideways * (below ^ key)
        ) & self._mask
        return found

    def _offsets(self, row: int, column: int, addend: int = 0) -> set[int]:
        """Offsets, without the top bit, that make a cell's plain word the same in all images of a base."""
        word = ((self._words(self._order, row, column) + addend) & self._mask) ^ self._column_keys[column]
        sums = self._sums(self._order, row, column, addend)
        solved = offset_and_key(word, sums, self._base[self._order], self._bits, 8192)
        return {d & (self._mask >> 1) for d, k in solved.tolist() if k == 0}

    def _vote_offset(self, row: int, first: int, default: int = 0) -> int:
        votes: dict[int, int] = {}
        for column in range(first, _LAST):
            for d in self._offsets(row, column):
                votes[d] = votes.get(d, 0) + 1
        return most_voted(votes) if votes else default

    def _vote_column_key(self, column: int) -> int:
        votes: dict[int, int] = {}
        for row in range(0, 60, 3):
            if self._offset[row] < 0:
                continue
            v = (self._sums(self._order, row, column) + self._offset[row]) & self._mask
            for top in (0, self._top):
                k = int(find_only_key(
                    self._words(self._order, row, column), self._q[v ^ top], self._base[self._order], self._bits
                ))  # fmt: skip
                if k >= 0:
                    votes[k] = votes.get(k, 0) + 1
        return most_voted(votes)

    # Rows at the edges: where the second sweep's key of the row has high bits 0, those of its addends are still open,
    # in all columns alike. The choice that makes the first sweep consistent is the right one.

    def _open_edge_addends(self, edge: int) -> list[int]:
        """Changes of an edge row's addends that fit columns 2 and 3; the first of them is made."""
        unit = 1 << int(self._leftward.keys[edge]).bit_length()
        fitting = [
            change
            for change in range(0, self._mask + 1, unit)
            if self._offsets(edge, 2, change) & self._offsets(edge, 3, change)
        ]
        if fitting:
            self._change_addends(edge, fitting[0])
        return fitting

    def _change_addends(self, edge: int, change: int) -> None:
        left = self._leftward
        left.addends[edge, 1:] = (left.addends[edge, 1:] - change) & self._mask
        above = (edge - left.shift) % ROWS
        left.offset[above] = (left.offset[above] - left.sideways * change) & self._mask
        left.offset[edge] = (left.offset[edge] - left.forward * change) & self._mask
        self._w[:, edge, 1:] = (self._w[:, edge, 1:].astype(np.int64) + change) & self._mask

    def _choose_edge_addends(self, edge: int, fitting: list[int]) -> None:
        """Choose among several changes by all columns."""
        if len(fitting) < 2:
            return
        scores = []
        for change in fitting:
            further = (change - fitting[0]) & self._mask
            offsets = self._offsets(edge, 2, further) & self._offsets(edge, 3, further)
            score = 0
            for column in range(2, _LAST):
                word = ((self._words(self._order, edge, column) + further) & self._mask) ^ self._column_keys[column]
                sums = self._sums(self._order, edge, column, further)
                score += any(
                    np.ptp(((word - self._q[(sums + d) & self._mask ^ top]) & self._mask) ^ self._outside[self._order])
                    == 0
                    for d in offsets
                    for top in (0, self._top)
                )
            scores.append((score, further, min(offsets, default=0)))
        _, further, offset = max(scores)
        self._change_addends(edge, further)
        self._offset[edge] = offset

    def _find_first_column_key(self) -> int:
        votes: dict[int, int] = {}
        for row in range(60):
            word, beside, below = self._sources(self._first_base, row, 1)
            word = word ^ self._column_keys[1]
            for constant in constants_by_lowest_bit(word, (beside ^ below) & 1, self._inverse, self._mask, 4096):
                for top in (0, self._top):
                    v = self._inverse[(word - (constant ^ top)) & self._mask]
                    solved = two_keys(
                        v, beside, below, self._forward, self._sideways, int(self._offset[row]), self._bits, 4096
                    )
                    for k, other in solved.tolist():
                        if k == other:
                            votes[k] = votes.get(k, 0) + 1
        return most_voted(votes)

    def _choose_first_addend(self, edge: int) -> None:
        """Choose an edge row's addend of the first column: the one that makes column 1 consistent."""
        left, images = self._leftward, self._order
        fitting = []
        possible = left.open_addends[edge]
        if len(possible) < 2:
            return
        word, beside, below = self._sources(images, edge, 1)
        key = self._column_keys[0]
        for addend in possible:
            change = (left.addends[edge, 0] - addend) & self._mask
            sums = self._forward * (((beside + change) & self._mask) ^ key) + self._sideways * (below ^ key)
            v = (sums + self._offset[edge]) & self._mask
            for top in (0, self._top):
                plain = (((word ^ self._column_keys[1]) - self._q[v ^ top]) & self._mask) ^ self._outside[images]
                if np.ptp(plain) == 0:
                    fitting.append((addend, change))
        if fitting:
            addend, change = fitting[-1]
            self._w[:, edge, 0] = (self._w[:, edge, 0].astype(np.int64) + change) & self._mask
            left.addends[edge, 0] = addend

    def _find_last_column(self) -> Ints:
        """Find the second sweep's key of the last column and each row's addend there."""
        possible: list[list[tuple[int, int]]] = []
        votes: dict[int, int] = {}
        for row in range(ROWS):
            v = (self._sums(self._order, row, _LAST) + self._offset[row]) & self._mask
            word, found = self._words(self._order, row, _LAST), []
            for top in (0, self._top):
                added = self._q[v ^ top]
                for e, k in find_addend_and_key(word, added, self._base[self._order], self._bits, 8192).tolist():
                    plain = (((((word - e) & self._mask) ^ k) - added) & self._mask) ^ self._outside[self._order]
                    if np.ptp(plain) == 0:
                        found.append((e, k))
            possible.append(found)
            for k in {k for _, k in found}:
                votes[k] = votes.get(k, 0) + 1
        key = self._column_keys[_LAST] = most_voted(votes)
        return np.array([next((e for e, k in found if k == key), 0) for found in possible], np.int64)

    def _find_first_column(self) -> tuple[Ints, Ints]:
        """Find keys and addends of the first column. A row's pixel is the one that changes in the same images."""
        changed: NDArray[np.bool_] = (self._w[self._first_base, :, 0] != self._flat[:, 0]).T
        varied = (self._values[self._first_base] != self._oracle.bases[0]).T
        pixel_of = {images.tobytes(): number for number, images in enumerate(varied)}
        keys, addends = np.zeros((ROWS, COLUMNS), np.int64), np.zeros(ROWS, np.int64)
        every = np.arange(len(self._w))
        for row in range(ROWS):
            pixel = pixel_of.get(changed[row].tobytes(), -1)
            word = self._words(every, row, 0) ^ self._column_keys[0]
            found = key_then_addend(np.ascontiguousarray(self._values[:, pixel]), word, self._bits, 256)
            found = found[found[:, 0] < self._top]
            if len(found):
                keys[row, 0], addends[row] = found[0]
        return keys, addends
