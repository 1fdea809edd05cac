"""Operations on ciphertexts without key switches: sums, products with encoded vectors, rescaling, fresh zeros.

A ciphertext of L primes is (2, L, n) in one flat array, transformed, reduced; offsets are in elements.
"""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import Lanes, helper, inlined
from he_infer.ckks.engines.native.kernels.lanes import gather, load, splat, store
from he_infer.ckks.engines.native.kernels.modular import reduced, times, times_constant
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring
from he_infer.ckks.engines.native.kernels.scratch import Scratch
from he_infer.ckks.engines.native.kernels.transforms import forward, inverse

_PAGE = 512
"""Number of elements of a sum of products that are computed at a time: they fit into the L1 cache."""
_JOINED = 4
"""Products with vectors that are added at a time."""


@helper
def to_transform(source: Doubles, at: int, out: Doubles, to: int, j: int, n: int, ring: Ring, work: Doubles) -> None:
    """Run `forward` modulo prime j."""
    forward(
        source,
        at,
        work,
        out,
        to,
        n,
        ring.roots[j],
        ring.root_shares[j],
        ring.last_roots[j],
        ring.primes[j],
        ring.reciprocals[j],
    )


@helper
def to_coefficients(source: Doubles, at: int, out: Doubles, to: int, j: int, n: int, ring: Ring) -> None:
    """Run `inverse` modulo prime j."""
    inverse(
        source,
        at,
        out,
        to,
        n,
        ring.inverse_roots[j],
        ring.inverse_shares[j],
        ring.inverse_last[j],
        ring.sizes[j],
        ring.primes[j],
        ring.reciprocals[j],
    )


@helper
def sum_products(
    terms: NDArray[np.int64],
    left: Doubles,
    plains: Doubles,
    out: Doubles,
    to: int,
    rows: int,
    n: int,
    ring: Ring,
    add: bool,
) -> None:
    """Sum left[t0] * plains[t1] into out (with `add`, onto it); terms (T, 3) = t0, t1, and 1 for a constant (rows,).

    Large layers are limited by the weights' way from memory: each is read once, for both polynomials.
    """
    half = rows * n
    for j in range(rows):
        p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
        for at in range(j * n, j * n + n, _PAGE):
            t = 0
            while t < terms.shape[0]:
                present = add or t > 0
                if terms[t, 2]:
                    _add_constant(left, terms[t, 0] + at, plains[terms[t, 1] + j], out, to + at, half, p, r, present)
                    t += 1
                elif t + _JOINED <= terms.shape[0] and not terms[t : t + _JOINED, 2].any():
                    _add_joined(left, plains, terms[t : t + _JOINED], at, out, to + at, half, p, r, present)
                    t += _JOINED
                else:
                    _add_vector(left, terms[t, 0] + at, plains, terms[t, 1] + at, out, to + at, half, p, r, present)
                    t += 1


@inlined
def _add_constant(
    left: Doubles, a: int, number: float, out: Doubles, o: int, half: int, p: Lanes, r: Lanes, present: bool
) -> None:
    w = splat(number)
    for k in range(0, _PAGE, 8):
        _put(out, o + k, times(load(left, a + k), w, p, r), p, r, present)
        _put(out, o + half + k, times(load(left, a + half + k), w, p, r), p, r, present)


@inlined
def _add_vector(
    left: Doubles, a: int, plains: Doubles, b: int, out: Doubles, o: int, half: int, p: Lanes, r: Lanes, present: bool
) -> None:
    for k in range(0, _PAGE, 8):
        w = load(plains, b + k)
        _put(out, o + k, times(load(left, a + k), w, p, r), p, r, present)
        _put(out, o + half + k, times(load(left, a + half + k), w, p, r), p, r, present)


@inlined
def _add_joined(
    left: Doubles,
    plains: Doubles,
    terms: NDArray[np.int64],
    at: int,
    out: Doubles,
    o: int,
    half: int,
    p: Lanes,
    r: Lanes,
    present: bool,
) -> None:
    """Add four products before one reduction: 4 * 0.75 p and a reduced sum stay below 4 p."""
    a0, a1, a2, a3 = terms[0, 0] + at, terms[1, 0] + at, terms[2, 0] + at, terms[3, 0] + at
    b0, b1, b2, b3 = terms[0, 1] + at, terms[1, 1] + at, terms[2, 1] + at, terms[3, 1] + at
    for k in range(0, _PAGE, 8):
        w0, w1, w2, w3 = load(plains, b0 + k), load(plains, b1 + k), load(plains, b2 + k), load(plains, b3 + k)
        first = times(load(left, a0 + k), w0, p, r) + times(load(left, a1 + k), w1, p, r)
        first = first + times(load(left, a2 + k), w2, p, r) + times(load(left, a3 + k), w3, p, r)
        _put(out, o + k, first, p, r, present)
        second = times(load(left, a0 + half + k), w0, p, r) + times(load(left, a1 + half + k), w1, p, r)
        second = second + times(load(left, a2 + half + k), w2, p, r) + times(load(left, a3 + half + k), w3, p, r)
        _put(out, o + half + k, second, p, r, present)


@inlined
def _put(out: Doubles, o: int, lanes: Lanes, p: Lanes, r: Lanes, present: bool) -> None:
    """Store a sum, reduced, together with what is there if that is `present`."""
    if present:
        lanes = lanes + load(out, o)
    store(out, o, reduced(lanes, p, r))


@helper
def add_values(
    left: Doubles, a: int, right: Doubles, b: int, out: Doubles, to: int, rows: int, n: int, ring: Ring
) -> None:
    """Add two ciphertexts."""
    for row in range(2 * rows):
        j = row % rows
        p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
        for k in range(row * n, row * n + n, 8):
            store(out, to + k, reduced(load(left, a + k) + load(right, b + k), p, r))


@helper
def add_encoded(
    left: Doubles, a: int, plains: Doubles, b: int, constant: bool, out: Doubles, to: int, rows: int, n: int, ring: Ring
) -> None:
    """Add an encoded vector (rows, n), or a constant (rows,), to a ciphertext."""
    for j in range(rows):
        p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
        for k in range(j * n, j * n + n, 8):
            plain = splat(plains[b + j]) if constant else load(plains, b + k)
            store(out, to + k, reduced(load(left, a + k) + plain, p, r))
    for k in range(rows * n, 2 * rows * n, 8):
        store(out, to + k, load(left, a + k))


@helper
def permute(source: Doubles, at: int, places: NDArray[np.int32], out: Doubles, to: int, rows: int, n: int) -> None:
    """Apply an automorphism: reorder each of `rows` transforms."""
    for row in range(rows):
        for k in range(0, n, 8):
            store(out, to + row * n + k, gather(source, at + row * n, places, k))


@helper
def multiply_values(
    left: Doubles,
    a: int,
    right: Doubles,
    b: int,
    low: Doubles,
    high: Doubles,
    rows: int,
    n: int,
    ring: Ring,
) -> None:
    """Compute the three polynomials of a product: two into low (2, rows, n), the third into high (rows, n)."""
    second = rows * n
    for j in range(rows):
        p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
        for k in range(j * n, j * n + n, 8):
            a0, a1 = load(left, a + k), load(left, a + second + k)
            b0, b1 = load(right, b + k), load(right, b + second + k)
            store(low, k, reduced(times(a0, b0, p, r), p, r))
            store(low, second + k, reduced(times(a0, b1, p, r) + times(a1, b0, p, r), p, r))
            store(high, k, reduced(times(a1, b1, p, r), p, r))


@helper
def divide(
    left: Doubles,
    a: int,
    dropped: int,
    base: Doubles,
    b: int,
    based: bool,
    out: Doubles,
    to: int,
    rows: int,
    n: int,
    ring: Ring,
    scratch: Scratch,
) -> None:
    """Divide a ciphertext (2, rows + 1, n) by its last prime, which is prime `dropped`, rounded: (2, rows, n).

    A ciphertext (2, rows, n) is added to the quotient if `based`.
    """
    for comp in range(2):
        start = a + comp * (rows + 1) * n
        to_coefficients(left, start + rows * n, scratch.dropped, 0, dropped, n, ring)
        for j in range(rows):
            to_transform(scratch.dropped, 0, scratch.special, 0, j, n, ring, scratch.work)
            p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
            w, share = splat(ring.prime_inverses[dropped, j, 0]), splat(ring.prime_inverses[dropped, j, 1])
            row = (comp * rows + j) * n
            for k in range(0, n, 8):
                difference = load(left, start + j * n + k) - load(scratch.special, k)
                quotient = times_constant(difference, w, share, p)
                if based:
                    quotient = quotient + load(base, b + row + k)
                store(out, to + row + k, reduced(quotient, p, r))


@helper
def add_zero(
    left: Doubles,
    a: int,
    samples: Doubles,
    s: int,
    keys: Doubles,
    key: int,
    out: Doubles,
    to: int,
    rows: int,
    n: int,
    ring: Ring,
    scratch: Scratch,
) -> None:
    """Add a fresh encryption of zero to a ciphertext: (pk0 u + e0, pk1 u + e1), samples (3, n) = u, e0, e1."""
    chain = ring.primes.shape[0]
    for j in range(rows):
        p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
        to_transform(samples, s, scratch.lifted, 0, j, n, ring, scratch.work)
        for comp in range(2):
            to_transform(samples, s + (1 + comp) * n, scratch.special, 0, j, n, ring, scratch.work)
            row = (comp * rows + j) * n
            public = key + (comp * chain + j) * n
            for k in range(0, n, 8):
                masked = times(load(scratch.lifted, k), load(keys, public + k), p, r) + load(scratch.special, k)
                store(out, to + row + k, reduced(load(left, a + row + k) + masked, p, r))
