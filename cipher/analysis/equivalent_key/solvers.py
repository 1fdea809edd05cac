"""Equations of the sweeps modulo 2^w that are solved whole, or by trying all values of one unknown.

Everywhere q is the sweeps' public bijection v -> t xor (t >> w/2) with t = v (2v + 1).
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
