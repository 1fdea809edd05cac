"""Sweeps of version 1 undone in many images at once, with the constants that the attack has found.

Arrays are (images, rows, columns). Row r plus a shift s means row (r + s) mod rows, and so for columns. `parity` holds
for each cell the top bit of v, by which the constants that were found differ from the true ones.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.kernel import inner, kernel
from cipher.analysis.equivalent_key.cell_keys import addend_and_key, only_key
from cipher.analysis.equivalent_key.solvers import Ints

Grids = NDArray[Any]


@kernel
def undo_up(grids: Grids, a: int, b: int, shift: int, offset: Ints, q: Ints, mask: int, out: Grids) -> None:
    """Undo the last sweep but for its keys, in all rows but the last one, which is left as it is."""
    images, rows, columns = grids.shape
    for i in range(images):
        for r in range(rows - 1):
            for c in range(columns):
                beside = np.int64(grids[i, r + 1, (c + shift) % columns])
                v = (a * np.int64(grids[i, r + 1, c]) + b * beside + offset[c]) & mask
                out[i, r, c] = (np.int64(grids[i, r, c]) - q[v]) & mask
        out[i, rows - 1] = grids[i, rows - 1]


MOST_FITTED = 360
"""Images that a cell's key is fitted to."""


@kernel
def fit_down(
    u: Grids, touched: Grids, base: Ints, y: Grids, v: Grids, a: int, b: int, shift: int, offset: Ints, keys: Ints,
    parity: Ints, q: Ints, bits: int,
) -> tuple[Ints, int]:  # fmt: skip
    """Find the last sweep's key of each cell from row 2 on, row by row, and undo the third sweep with it.

    Row 0 of y, and keys of rows 0 and 1, are given. Images in which a cell is not touched have the same word there
    before the third sweep. In the last row an addend e is found besides the key. Two keys can fit a cell, one under
    each parity (where the low halves of its words before the sweep are 0 in all bases); the row below tells which is
    right.

    Args:
        u: the images, the last sweep undone but for its keys.
        touched: whether an image may differ from its base in a cell before the third sweep.
        base: number of each image's base.
        y: receives the words after the third sweep.
        v: receives the words before it.
        a: the third sweep's weight of the row above.
        b: its weight of the row above, rolled.
        shift: how far that is rolled.
        offset: its offsets, (columns,).
        keys: receives the keys.
        parity: receives the parities.
        q: the table of q.
        bits: bits of a word.

    Returns:
        e of each column, and the number of cells without one answer.
    """
    images, rows, columns = u.shape
    mask, top = (1 << bits) - 1, 1 << (bits - 1)
    unclear = 0
    addends = np.zeros(columns, np.int64)
    other = np.full((rows, columns), -1, np.int64)
    number = np.empty(MOST_FITTED, np.int64)
    words, even, odd = np.empty(MOST_FITTED, np.int64), np.empty(MOST_FITTED, np.int64), np.empty(MOST_FITTED, np.int64)
    for r in range(1, rows):
        for c in range(columns):
            beside = (c + shift) % columns
            n = _collect_cell(u, touched, base, y, r, c, a, b, shift, offset, q, mask, number, words, even, odd)
            if r == 1:
                fits, fits_odd = True, True
                for t in range(1, n):
                    if number[t] == number[t - 1]:
                        now, before = words[t] ^ keys[1, c], words[t - 1] ^ keys[1, c]
                        fits = fits and ((now - even[t]) & mask) == ((before - even[t - 1]) & mask)
                        fits_odd = fits_odd and ((now - odd[t]) & mask) == ((before - odd[t - 1]) & mask)
                if fits_odd and not fits:
                    parity[1, c] = top
                elif not fits or fits_odd:
                    unclear += 1
            elif r < rows - 1:
                k = only_key(words[:n], even[:n], number[:n], bits)
                k_odd = only_key(words[:n], odd[:n], number[:n], bits)
                for choice in range(1, 4):
                    if k != -1 or k_odd != -1:
                        break
                    # No key fits: of two that fitted above, the wrong one was taken there.
                    if (choice & 1 and other[r - 1, c] < 0) or (choice & 2 and other[r - 1, beside] < 0):
                        continue
                    for again in range(2):
                        if choice & 1:
                            _turn(u, y, v, r - 1, c, a, b, shift, offset, keys, other, parity, q, mask)
                        if choice & 2:
                            _turn(u, y, v, r - 1, beside, a, b, shift, offset, keys, other, parity, q, mask)
                        if again:
                            break
                        n = _collect_cell(
                            u, touched, base, y, r, c, a, b, shift, offset, q, mask, number, words, even, odd
                        )
                        k = only_key(words[:n], even[:n], number[:n], bits)
                        k_odd = only_key(words[:n], odd[:n], number[:n], bits)
                        if k != -1 or k_odd != -1:
                            break
                if k >= 0 and k_odd == -1:
                    keys[r, c] = k
                elif k_odd >= 0 and k == -1:
                    keys[r, c], parity[r, c] = k_odd, top
                elif k >= 0 and k_odd >= 0:
                    keys[r, c], other[r, c] = k, k_odd
                else:
                    unclear += 1
                    keys[r, c] = max(k, k_odd, 0)
                    if k_odd >= 0 and k < 0:
                        parity[r, c] = top
            else:
                found = addend_and_key(words[:n], even[:n], number[:n], bits, 8192)
                found_odd = addend_and_key(words[:n], odd[:n], number[:n], bits, 8192)
                if (found.shape[0] > 0) == (found_odd.shape[0] > 0):
                    unclear += 1
                if found.shape[0]:
                    addends[c], keys[r, c] = found[0, 0], found[0, 1]
                elif found_odd.shape[0]:
                    addends[c], keys[r, c], parity[r, c] = found_odd[0, 0], found_odd[0, 1], top
            addend = addends[c] if r == rows - 1 else 0
            for i in range(images):
                _undo_down_cell(u, y, v, i, r, c, a, b, shift, offset, keys, addend, parity, q, mask)
    v[:, 0] = y[:, 0]
    return addends, unclear


@inner
def _collect_cell(
    u: Grids, touched: Grids, base: Ints, y: Grids, r: int, c: int, a: int, b: int, shift: int, offset: Ints, q: Ints,
    mask: int, number: Ints, words: Ints, even: Ints, odd: Ints,
) -> int:  # fmt: skip
    """Words of a cell that is not touched, and what the third sweep adds to them under either parity; their number."""
    images, groups, beside = u.shape[0], base.max() + 1, (c + shift) % u.shape[2]
    n = 0
    for group in range(groups):
        taken = 0
        for back in range(images):
            i = images - 1 - back
            if base[i] == group and not touched[i, r, c] and taken < MOST_FITTED // groups:
                taken += 1
                number[n], words[n] = group, u[i, r, c]
                s = (a * np.int64(y[i, r - 1, c]) + b * np.int64(y[i, r - 1, beside]) + offset[c]) & mask
                even[n], odd[n] = q[s], q[s ^ ((mask + 1) >> 1)]
                n += 1
    return n


@inner
def _turn(
    u: Grids, y: Grids, v: Grids, r: int, c: int, a: int, b: int, shift: int, offset: Ints, keys: Ints, other: Ints,
    parity: Ints, q: Ints, mask: int,
) -> None:  # fmt: skip
    """Take the other one of two keys that fit a cell."""
    keys[r, c], other[r, c] = other[r, c], keys[r, c]
    parity[r, c] ^= (mask + 1) >> 1
    for i in range(u.shape[0]):
        _undo_down_cell(u, y, v, i, r, c, a, b, shift, offset, keys, 0, parity, q, mask)


@inner
def _undo_down_cell(
    u: Grids, y: Grids, v: Grids, i: int, r: int, c: int, a: int, b: int, shift: int, offset: Ints, keys: Ints,
    addend: int, parity: Ints, q: Ints, mask: int,
) -> None:  # fmt: skip
    beside = np.int64(y[i, r - 1, (c + shift) % u.shape[2]])
    s = ((a * np.int64(y[i, r - 1, c]) + b * beside + offset[c]) & mask) ^ parity[r, c]
    word = ((np.int64(u[i, r, c]) - addend) & mask) ^ keys[r, c]
    y[i, r, c] = word
    v[i, r, c] = (word - q[s]) & mask


@kernel
def undo_down(
    u: Grids, y: Grids, v: Grids, a: int, b: int, shift: int, offset: Ints, keys: Ints, addends: Ints, parity: Ints,
    q: Ints, bits: int,
) -> None:  # fmt: skip
    """Undo the third sweep in further images with what `fit_down` found; y and v as there."""
    images, rows, columns = u.shape
    mask = (1 << bits) - 1
    for i in range(images):
        for c in range(columns):
            y[i, 0, c] = u[i, 0, c] ^ keys[0, c]
            v[i, 0, c] = y[i, 0, c]
        for r in range(1, rows):
            for c in range(columns):
                addend = addends[c] if r == rows - 1 else 0
                _undo_down_cell(u, y, v, i, r, c, a, b, shift, offset, keys, addend, parity, q, mask)


@kernel
def fit_left(
    v: Grids, base: Ints, keys: Ints, addends: Ints, a: int, b: int, shift: int, offset: Ints, parity: Ints, q: Ints,
    bits: int,
) -> int:  # fmt: skip
    """Fill `parity` of the second sweep: the words before it do not differ from the base's. Gives unclear cells."""
    images, rows, columns = v.shape
    mask, top = (1 << bits) - 1, 1 << (bits - 1)
    groups = base.max() + 1
    unclear = 0
    for r in range(rows):
        below = (r + shift) % rows
        for c in range(columns - 1):
            fits, fits_odd = True, True
            first, first_odd = np.full(groups, -1), np.full(groups, -1)
            for i in range(images):
                word = ((np.int64(v[i, r, c]) - addends[r, c]) & mask) ^ keys[r]
                y = ((np.int64(v[i, r, c + 1]) - addends[r, c + 1]) & mask) ^ keys[r]
                x = ((np.int64(v[i, below, c + 1]) - addends[below, c + 1]) & mask) ^ keys[below]
                s = (a * y + b * x + offset[r]) & mask
                even, odd = (word - q[s]) & mask, (word - q[s ^ top]) & mask
                group = base[i]
                if first[group] < 0:
                    first[group], first_odd[group] = even, odd
                else:
                    fits = fits and even == first[group]
                    fits_odd = fits_odd and odd == first_odd[group]
                    if not fits and not fits_odd:
                        break
            if fits_odd and not fits:
                parity[r, c] = top
            elif not fits or fits_odd:
                unclear += 1
    return unclear


@kernel
def undo_left(
    v: Grids, keys: Ints, addends: Ints, a: int, b: int, shift: int, offset: Ints, parity: Ints, q: Ints, bits: int,
    out: Grids,
) -> None:  # fmt: skip
    """Undo the second sweep but for its keys; the last column still has its addend."""
    images, rows, columns = v.shape
    mask = (1 << bits) - 1
    whole = np.empty((rows, columns), np.int64)
    for i in range(images):
        for r in range(rows):
            for c in range(columns):
                whole[r, c] = ((np.int64(v[i, r, c]) - addends[r, c]) & mask) ^ keys[r]
        for r in range(rows):
            below = (r + shift) % rows
            for c in range(columns - 1):
                s = ((a * whole[r, c + 1] + b * whole[below, c + 1] + offset[r]) & mask) ^ parity[r, c]
                out[i, r, c] = (whole[r, c] - q[s]) & mask
            out[i, r, columns - 1] = whole[r, columns - 1]


@kernel
def fit_right(
    w: Grids, values: Ints, column_keys: Ints, last_addends: Ints, a: int, b: int, shift: int, offset: Ints,
    parity: Ints, keys: Ints, q: Ints, bits: int,
) -> int:  # fmt: skip
    """Find key and parity of each cell of the first sweep from column 1 on; unclear cells get parity -1.

    Args:
        w: the images, the second sweep undone but for its keys.
        values: the plain word, the same in all those cells, of each image.
        column_keys: keys of the second sweep.
        last_addends: e of the last column.
        a: the first sweep's weight of the column before.
        b: its weight of the column before, rolled.
        shift: how far that is rolled.
        offset: its offsets, (rows,).
        parity: receives the parities.
        keys: receives the keys.
        q: the table of q.
        bits: bits of a word.
    """
    images, rows, columns = w.shape
    mask, top = (1 << bits) - 1, 1 << (bits - 1)
    unclear = 0
    for c in range(1, columns):
        for r in range(rows):
            below = (r + shift) % rows
            addend = last_addends[r] if c == columns - 1 else 0
            fits, fits_odd, key, key_odd = True, True, np.int64(-1), np.int64(-1)
            for i in range(images):
                word = ((np.int64(w[i, r, c]) - addend) & mask) ^ column_keys[c]
                y = np.int64(w[i, r, c - 1]) ^ column_keys[c - 1]
                x = np.int64(w[i, below, c - 1]) ^ column_keys[c - 1]
                s = (a * y + b * x + offset[r]) & mask
                even, odd = ((word - q[s]) & mask) ^ values[i], ((word - q[s ^ top]) & mask) ^ values[i]
                if i == 0:
                    key, key_odd = even, odd
                fits = fits and even == key
                fits_odd = fits_odd and odd == key_odd
                if not fits and not fits_odd:
                    break
            if fits and not fits_odd:
                keys[r, c] = key
            elif fits_odd and not fits:
                parity[r, c], keys[r, c] = top, key_odd
            else:
                unclear += 1
                parity[r, c] = -1
    return unclear


@kernel
def undo_right(
    w: Grids, column_keys: Ints, first_addends: Ints, last_addends: Ints, a: int, b: int, shift: int, offset: Ints,
    parity: Ints, keys: Ints, q: Ints, bits: int,
) -> Ints:  # fmt: skip
    """Undo the first sweep in one image: (rows, columns) words as confusion left them."""
    rows, columns = w.shape
    mask = (1 << bits) - 1
    out = np.empty((rows, columns), np.int64)
    for r in range(rows):
        below = (r + shift) % rows
        out[r, 0] = (((np.int64(w[r, 0]) ^ column_keys[0]) - first_addends[r]) & mask) ^ keys[r, 0]
        for c in range(1, columns):
            addend = last_addends[r] if c == columns - 1 else 0
            word = ((np.int64(w[r, c]) - addend) & mask) ^ column_keys[c]
            y, x = np.int64(w[r, c - 1]) ^ column_keys[c - 1], np.int64(w[below, c - 1]) ^ column_keys[c - 1]
            s = ((a * y + b * x + offset[r]) & mask) ^ parity[r, c]
            out[r, c] = ((word - q[s]) & mask) ^ keys[r, c]
    return out
