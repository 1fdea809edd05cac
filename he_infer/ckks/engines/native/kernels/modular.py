"""Arithmetic modulo a prime p of at most 50 bits, on eight float64 residues at once.

A product a b is h + l exactly, with h = round(a b) and l = fma(a, b, -h). With q the integer nearest to h / p, the
difference h - q p has an absolute value below 2^53 and so fma(-q, p, h) is exact, and r = fma(-q, p, h) + l is
a b - q p. For |a| <= 2 p and |b| <= p the rounded quotient is off by at most a quarter, so |r| <= 0.75 p. Every stored
residue is reduced: it lies between -p/2 and p/2. In between, sums stay below 4 p <= 2^52.
"""

from he_infer.ckks.engines.native.kernels.compiling import Lanes, inlined
from he_infer.ckks.engines.native.kernels.lanes import (
    high_fours,
    high_ones,
    high_twos,
    low_fours,
    low_ones,
    low_twos,
    multiply_subtract,
    nearest,
    subtract_product,
)


@inlined
def times_constant(a: Lanes, w: Lanes, share: Lanes, p: Lanes) -> Lanes:
    """A w mod p for a constant w whose quotient w / p is known."""
    h = a * w
    low = multiply_subtract(a, w, h)
    return subtract_product(h, nearest(a * share), p) + low


@inlined
def times(a: Lanes, b: Lanes, p: Lanes, reciprocal: Lanes) -> Lanes:
    """A b mod p."""
    h = a * b
    low = multiply_subtract(a, b, h)
    return subtract_product(h, nearest(h * reciprocal), p) + low


@inlined
def reduced(a: Lanes, p: Lanes, reciprocal: Lanes) -> Lanes:
    """A mod p, between -p/2 and p/2, for |a| < 2^53."""
    return subtract_product(a, nearest(a * reciprocal), p)


@inlined
def transposed(
    r0: Lanes, r1: Lanes, r2: Lanes, r3: Lanes, r4: Lanes, r5: Lanes, r6: Lanes, r7: Lanes
) -> tuple[Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes]:
    """An 8 x 8 block, rows for columns."""
    a0, a4 = low_fours(r0, r4), high_fours(r0, r4)
    a1, a5 = low_fours(r1, r5), high_fours(r1, r5)
    a2, a6 = low_fours(r2, r6), high_fours(r2, r6)
    a3, a7 = low_fours(r3, r7), high_fours(r3, r7)
    b0, b2 = low_twos(a0, a2), high_twos(a0, a2)
    b1, b3 = low_twos(a1, a3), high_twos(a1, a3)
    b4, b6 = low_twos(a4, a6), high_twos(a4, a6)
    b5, b7 = low_twos(a5, a7), high_twos(a5, a7)
    return (
        low_ones(b0, b1),
        high_ones(b0, b1),
        low_ones(b2, b3),
        high_ones(b2, b3),
        low_ones(b4, b5),
        high_ones(b4, b5),
        low_ones(b6, b7),
        high_ones(b6, b7),
    )
