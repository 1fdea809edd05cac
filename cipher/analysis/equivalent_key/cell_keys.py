"""The key of a cell and the constants added to its word, solved bit by bit from the lowest.

Everywhere (u xor k) is a word before its key is known, q the sweeps' public bijection v -> t xor (t >> w/2) with
t = v (2v + 1), and `group` numbers images whose left side must be the same, equal numbers side by side. A key's top bit
cannot be told from an addend's, so it is left 0; the cell's *parity* (the top bit of v) takes up what that leaves open.
Solutions come as rows of an array. At most `cap` candidates are kept at a time.
"""

import numpy as np

from cipher.algorithm.engine.kernel import inner, kernel
from cipher.analysis.equivalent_key.solvers import Ints


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
