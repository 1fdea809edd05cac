"""Equations modulo 2^w, solved bit by bit from the lowest, or by trying all values of one unknown.

Everywhere (u xor k) is a word before its key is known, q the sweeps' public bijection v -> t xor (t >> w/2) with
t = v (2v + 1), and `group` numbers images whose left side must be the same, equal numbers side by side. A key's top bit
cannot be told from an addend's, so it is left 0; the cell's *parity* (the top bit of v) takes up what that leaves open.
Solutions come as rows of an array. At most `cap` candidates are kept at a time.
"""

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.kernel import inner, kernel

Ints = NDArray[np.int64]


def q_tables(bits: int) -> tuple[Ints, Ints]:
    """Table of q for words of `bits`, and of its inverse."""
    v = np.arange(1 << bits, dtype=np.int64)
    squared = v * (2 * v + 1) & ((1 << bits) - 1)
    q = squared ^ (squared >> bits // 2)
    inverse = np.empty_like(q)
    inverse[q] = v
    return q, inverse


@inner
def _inverse_of_odd(x: int, mask: int) -> int:
    inverse = 1
    for _ in range(6):
        inverse = inverse * (2 - x * inverse) & mask
    return inverse


@kernel
def most_equal(above: Ints, sums: Ints, q: Ints, mask: int) -> tuple[int, int, int]:
    """The d for which most images share the first one's above - q(sum + d): (d, their number, the next best number)."""
    best, best_d, second = -1, -1, -1
    for d in range(mask + 1):
        first = (above[0] - q[(sums[0] + d) & mask]) & mask
        hits = 0
        for i in range(1, above.size):
            if (above[i] - q[(sums[i] + d) & mask]) & mask == first:
                hits += 1
        if hits > best:
            second, best, best_d = best, hits, d
        elif hits > second:
            second = hits
    return best_d, best, second


@kernel
def keys_by_low_bits(u: Ints, label: Ints, bits: int, cap: int) -> Ints:
    """All (k, K) for which the low bits of q's inverse of (u xor k) - K are a function of `label`.

    They are, if `label` holds the low halves of the two words that v is a sum of: the two halves of q(v) then have the
    same xor in images of equal label.
    """
    half = bits // 2
    order = np.argsort(label)
    first, second = np.empty(u.size, np.int64), np.empty(u.size, np.int64)
    pairs, start = 0, 0
    for t in range(1, u.size):
        if label[order[t]] == label[order[start]]:
            if u[order[t]] != u[order[start]]:
                first[pairs], second[pairs] = u[order[start]], u[order[t]]
                pairs += 1
        else:
            start = t
    found = np.empty((cap, 2), np.int64)
    count = 0
    if pairs < 6:
        return found[:0]
    mask = (1 << (half + 1)) - 1
    for k in range(mask + 1):
        for constant in range(mask + 1):
            if count < cap and _same_low_bits(first, second, pairs, k, constant, mask, half, 1):
                found[count, 0], found[count, 1] = k, constant
                count += 1
    for bit in range(half + 1, bits):
        mask, low = (1 << (bit + 1)) - 1, (1 << (bit - half + 1)) - 1
        longer = np.empty((cap, 2), np.int64)
        kept = 0
        for index in range(count):
            for choice in range(4):
                k, constant = found[index, 0] | (choice & 1) << bit, found[index, 1] | (choice >> 1) << bit
                if kept < cap and _same_low_bits(first, second, pairs, k, constant, mask, half, low):
                    longer[kept, 0], longer[kept, 1] = k, constant
                    kept += 1
        found, count = longer, kept
    return found[:count]


@inner
def _same_low_bits(
    first: Ints, second: Ints, pairs: int, k: int, constant: int, mask: int, half: int, low: int
) -> bool:
    for t in range(pairs):
        a, b = ((first[t] ^ k) - constant) & mask, ((second[t] ^ k) - constant) & mask
        if ((a ^ (a >> half)) ^ (b ^ (b >> half))) & low:
            return False
    return True


@kernel
def linear(v: Ints, y: Ints, x: Ints, mask: int) -> tuple[bool, int, int, int]:
    """a, b, d with v = a y + b x + d in all images, a and b odd: (found, a, b, d)."""
    for i in range(1, v.size):
        for j in range(i + 1, min(v.size, i + 40)):
            dy, dx, ey, ex = y[i] - y[0], x[i] - x[0], y[j] - y[0], x[j] - x[0]
            determinant = (dy * ex - dx * ey) & mask
            if determinant & 1:
                factor = _inverse_of_odd(determinant, mask)
                p, r = v[i] - v[0], v[j] - v[0]
                a, b = (p * ex - r * dx) * factor & mask, (r * dy - p * ey) * factor & mask
                d = (v[0] - a * y[0] - b * x[0]) & mask
                for t in range(v.size):
                    if (a * y[t] + b * x[t] + d - v[t]) & mask:
                        return False, a, b, d
                return bool(a & b & 1), a, b, d
    return False, 0, 0, 0


@kernel
def offset_and_key(u: Ints, sums: Ints, group: Ints, bits: int, cap: int) -> Ints:
    """All (d, k) with (u xor k) - q(sum + d) the same within groups."""
    half = bits // 2
    found = np.empty((cap, 2), np.int64)
    count = 0
    low = (1 << (half + 1)) - 1
    for d in range(low + 1):
        fits, reference = True, np.int64(0)
        for i in range(u.size):
            v = (sums[i] + d) & low
            t = v * (2 * v + 1) & low
            value = (u[i] ^ t ^ (t >> half)) & 1
            if i == 0 or group[i] != group[i - 1]:
                reference = value
            elif value != reference:
                fits = False
                break
        if fits and count < cap:
            found[count, 0], found[count, 1] = d, 0
            count += 1
    for j in range(1, bits):
        known = half + 1 + j  # bits of d after this step
        longer = np.empty((cap, 2), np.int64)
        kept = 0
        mask, mask_v = (1 << (j + 1)) - 1, (1 << min(known, bits)) - 1
        for index in range(count):
            for choice in range(4):
                if known > bits and choice & 1:
                    continue
                d, k = found[index, 0], found[index, 1] | (choice >> 1) << (j - 1)
                if known <= bits:
                    d |= (choice & 1) << (known - 1)
                fits, reference = True, np.int64(0)
                for i in range(u.size):
                    v = (sums[i] + d) & mask_v
                    t = v * (2 * v + 1) & mask_v
                    value = ((u[i] ^ k) - (t ^ (t >> half))) & mask
                    if i == 0 or group[i] != group[i - 1]:
                        reference = value
                    elif value != reference:
                        fits = False
                        break
                if fits and kept < cap:
                    longer[kept, 0], longer[kept, 1] = d, k
                    kept += 1
        found, count = longer, kept
    return found[:count]


@inner
def only_key(u: Ints, added: Ints, group: Ints, bits: int) -> int:
    """The k with (u xor k) - added the same within groups; -1 if there is none, -2 if there are several."""
    found, longer = np.zeros(64, np.int64), np.empty(64, np.int64)
    count = 1
    for j in range(1, bits):
        kept, mask = 0, (1 << (j + 1)) - 1
        for index in range(count):
            for choice in range(2):
                k = found[index] | choice << (j - 1)
                fits = True
                reference = ((u[0] ^ k) - added[0]) & mask
                for i in range(1, u.size):
                    value = ((u[i] ^ k) - added[i]) & mask
                    if group[i] != group[i - 1]:
                        reference = value
                    elif value != reference:
                        fits = False
                        break
                if fits and kept < 64:
                    longer[kept] = k
                    kept += 1
        found, longer = longer, found
        count = kept
        if count == 0:
            return -1
    return found[0] if count == 1 else -2


@kernel
def find_only_key(u: Ints, added: Ints, group: Ints, bits: int) -> int:
    """As `only_key`, for callers outside compiled code."""
    return only_key(u, added, group, bits)


@inner
def addend_and_key(y: Ints, added: Ints, group: Ints, bits: int, cap: int) -> Ints:
    """All (e, k) with ((y - e) xor k) - added the same within groups."""
    found = np.zeros((cap, 2), np.int64)
    count = 1
    for j in range(1, bits):
        longer = np.empty((cap, 2), np.int64)
        kept, mask = 0, (1 << (j + 1)) - 1
        for index in range(count):
            for choice in range(4):
                e, k = found[index, 0] | (choice & 1) << (j - 1), found[index, 1] | (choice >> 1) << (j - 1)
                fits, reference = True, np.int64(0)
                for i in range(y.size):
                    value = (((y[i] - e) ^ k) - added[i]) & mask
                    if i == 0 or group[i] != group[i - 1]:
                        reference = value
                    elif value != reference:
                        fits = False
                        break
                if fits and kept < cap:
                    longer[kept, 0], longer[kept, 1] = e, k
                    kept += 1
        found, count = longer, kept
    return found[:count]


@kernel
def find_addend_and_key(y: Ints, added: Ints, group: Ints, bits: int, cap: int) -> Ints:
    """As `addend_and_key`, for callers outside compiled code."""
    return addend_and_key(y, added, group, bits, cap)


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
def constants_by_lowest_bit(u: Ints, parity: Ints, inverse: Ints, mask: int, cap: int) -> Ints:
    """All K, top bit 0, for which the lowest bit of q's inverse of u - K is `parity`, up to a constant."""
    found = np.empty(cap, np.int64)
    count = 0
    for constant in range((mask >> 1) + 1):
        reference = (inverse[(u[0] - constant) & mask] ^ parity[0]) & 1
        fits = True
        for i in range(1, u.size):
            if ((inverse[(u[i] - constant) & mask] ^ parity[i]) & 1) != reference:
                fits = False
                break
        if fits and count < cap:
            found[count] = constant
            count += 1
    return found[:count]


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
