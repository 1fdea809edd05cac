"""Keys of two words or lines that are added to one word, solved bit by bit from the lowest; see `cell_keys`."""

import numpy as np

from cipher.algorithm.engine.kernel import kernel
from cipher.analysis.equivalent_key.solvers import Ints


@kernel
def two_keys(v: Ints, y: Ints, x: Ints, a: int, b: int, d: int, bits: int, cap: int) -> Ints:
    """All (k, l) with a (y xor k) + b (x xor l) + d = v, the top bit up to a constant."""
    found = np.zeros((cap, 2), np.int64)
    count = 1
    for j in range(bits):
        longer = np.empty((cap, 2), np.int64)
        kept, mask, last = 0, (1 << (j + 1)) - 1, j == bits - 1
        for index in range(count):
            for choice in range(4):
                if last and choice:
                    continue
                k, other = found[index, 0] | (choice & 1) << j, found[index, 1] | (choice >> 1) << j
                fits, reference = True, np.int64(0)
                for i in range(v.size):
                    rest = (a * (y[i] ^ k) + b * (x[i] ^ other) + d - v[i]) & mask
                    if last and i == 0:
                        reference = rest
                    elif rest != reference:
                        fits = False
                        break
                if fits and kept < cap:
                    longer[kept, 0], longer[kept, 1] = k, other
                    kept += 1
        found, count = longer, kept
    return found[:count]


@kernel
def addend_key_offset(y: Ints, target: Ints, b: int, bits: int, cap: int) -> Ints:
    """All (e, k, d) with b ((y - e) xor k) + d = target, the top bit up to a constant."""
    found = np.zeros((cap, 3), np.int64)
    count = 1
    for j in range(bits):
        longer = np.empty((cap, 3), np.int64)
        kept, mask, last = 0, (1 << (j + 1)) - 1, j == bits - 1
        for index in range(count):
            for choice in range(8):
                if last and choice:
                    continue
                e = found[index, 0] | (choice & 1) << j
                k = found[index, 1] | (choice >> 1 & 1) << j
                d = found[index, 2] | (choice >> 2) << j
                fits, reference = True, np.int64(0)
                for i in range(y.size):
                    rest = (b * ((y[i] - e) ^ k) + d - target[i]) & mask
                    if last and i == 0:
                        reference = rest
                    elif rest != reference:
                        fits = False
                        break
                if fits and kept < cap:
                    longer[kept, 0], longer[kept, 1], longer[kept, 2] = e, k, d
                    kept += 1
        found, count = longer, kept
    return found[:count]


@kernel
def key_and_offset_of_row(
    u: Ints, y: Ints, x: Ints, group: Ints, onward: bool, known: int, a: int, b: int, q: Ints, bits: int, cap: int
) -> Ints:
    """All (k, d) with (u xor m) - q(a (y xor m) + b (x xor l) + d) the same within groups.

    u and y lie in one row under its key m, x in another under l. If `onward`, m is known and k is l; else l is known
    and k is m. A group's number over 4 is the cell's, whose parity is free.
    """
    half, top, full = bits // 2, 1 << (bits - 1), (1 << bits) - 1
    low = (1 << (half + 1)) - 1
    found = np.empty((cap, 2), np.int64)
    count = 0
    for k in range(low + 1):
        own, other = (known, k) if onward else (k, known)
        for d in range(low + 1):
            fits, reference = True, np.int64(0)
            for i in range(u.size):
                v = (a * (y[i] ^ own) + b * (x[i] ^ other) + d) & low
                t = v * (2 * v + 1) & low
                value = (u[i] ^ t ^ (t >> half)) & 1
                if i == 0 or group[i] != group[i - 1]:
                    reference = value
                elif value != reference:
                    fits = False
                    break
            if fits and count < cap:
                found[count, 0], found[count, 1] = k, d
                count += 1
    for j in range(1, bits):
        bits_of_v = half + 1 + j
        longer = np.empty((cap, 2), np.int64)
        kept, mask, mask_v = 0, (1 << (j + 1)) - 1, (1 << min(bits_of_v, bits)) - 1
        if bits_of_v >= bits:
            mask &= (1 << (half - 1)) - 1  # bits that the top bit of v reaches are judged at the end, cell by cell
        for index in range(count):
            for choice in range(4):
                if bits_of_v >= bits and choice:
                    continue
                k, d = found[index, 0], found[index, 1]
                if bits_of_v < bits:
                    k |= (choice & 1) << (bits_of_v - 1)
                    d |= (choice >> 1) << (bits_of_v - 1)
                own, other = (known, k) if onward else (k, known)
                fits, reference = True, np.int64(0)
                for i in range(u.size):
                    v = (a * (y[i] ^ own) + b * (x[i] ^ other) + d) & mask_v
                    t = v * (2 * v + 1) & mask_v
                    value = ((u[i] ^ own) - (t ^ (t >> half))) & mask
                    if i == 0 or group[i] != group[i - 1]:
                        reference = value
                    elif value != reference:
                        fits = False
                        break
                if fits and kept < cap:
                    longer[kept, 0], longer[kept, 1] = k, d
                    kept += 1
        found, count = longer, kept
    whole = np.empty((cap, 2), np.int64)
    kept = 0
    for index in range(count):
        k, d = found[index, 0], found[index, 1]
        own, other = (known, k) if onward else (k, known)
        good, start = True, 0
        while start < u.size and good:
            end = start
            while end < u.size and group[end] // 4 == group[start] // 4:
                end += 1
            good = False
            for parity in (0, top):
                fits, reference = True, np.int64(0)
                for i in range(start, end):
                    v = ((a * (y[i] ^ own) + b * (x[i] ^ other) + d) & full) ^ parity
                    value = ((u[i] ^ own) - q[v]) & full
                    if i == start or group[i] != group[i - 1]:
                        reference = value
                    elif value != reference:
                        fits = False
                        break
                good = good or fits
            start = end
        if good:
            whole[kept, 0], whole[kept, 1] = k, d
            kept += 1
    return whole[:kept]


@kernel
def key_then_addend(x: Ints, y: Ints, bits: int, cap: int) -> Ints:
    """All (k, e) with (x xor k) + e = y."""
    found = np.zeros((cap, 2), np.int64)
    count = 1
    for j in range(bits):
        longer = np.empty((cap, 2), np.int64)
        kept, mask = 0, (1 << (j + 1)) - 1
        for index in range(count):
            for choice in range(2):
                k = found[index, 0] | choice << j
                e = (y[0] - (x[0] ^ k)) & mask
                fits = True
                for i in range(1, x.size):
                    if ((x[i] ^ k) + e - y[i]) & mask:
                        fits = False
                        break
                if fits and kept < cap:
                    longer[kept, 0], longer[kept, 1] = k, e
                    kept += 1
        found, count = longer, kept
    return found[:count]
