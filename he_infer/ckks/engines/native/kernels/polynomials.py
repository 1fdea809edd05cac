"""Operations on ciphertexts without key switches: sums, products with encoded vectors, rescaling, fresh zeros.

A ciphertext of L primes is (2, L, n) in one flat array, transformed, reduced; offsets are in elements.
"""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import helper
from he_infer.ckks.engines.native.kernels.lanes import gather, load, splat, store
from he_infer.ckks.engines.native.kernels.modular import reduced, times, times_constant
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring
from he_infer.ckks.engines.native.kernels.scratch import Scratch
from he_infer.ckks.engines.native.kernels.transforms import forward, inverse

_PAGE = 512
"""Number of elements of a sum of products that are computed at a time: they fit into the L1 cache."""


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
    """Sum left[t0] * plains[t1] into out (with `add`, onto it); terms (T, 3) = t0, t1, and 1 for a constant (rows,)."""
    for comp in range(2):
        for j in range(rows):
            p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
            row = (comp * rows + j) * n
            for start in range(0, n, _PAGE):
                for t in range(terms.shape[0]):
                    a = terms[t, 0] + row + start
                    o = to + row + start
                    if terms[t, 2]:
                        w = splat(plains[terms[t, 1] + j])
                        for k in range(0, _PAGE, 8):
                            product = times(load(left, a + k), w, p, r)
                            if add or t > 0:
                                product = product + load(out, o + k)
                            store(out, o + k, reduced(product, p, r))
                    else:
                        b = terms[t, 1] + j * n + start
                        for k in range(0, _PAGE, 8):
                            product = times(load(left, a + k), load(plains, b + k), p, r)
                            if add or t > 0:
                                product = product + load(out, o + k)
                            store(out, o + k, reduced(product, p, r))


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
def rescale(left: Doubles, a: int, out: Doubles, to: int, rows: int, n: int, ring: Ring, scratch: Scratch) -> None:
    """Divide a ciphertext of `rows` primes by its last one, rounded: (2, rows - 1, n)."""
    last = rows - 1
    for comp in range(2):
        to_coefficients(left, a + (comp * rows + last) * n, scratch.dropped, 0, last, n, ring)
        for j in range(last):
            to_transform(scratch.dropped, 0, scratch.special, 0, j, n, ring, scratch.work)
            p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
            w, share = splat(ring.prime_inverses[last, j, 0]), splat(ring.prime_inverses[last, j, 1])
            source, target = a + (comp * rows + j) * n, to + (comp * last + j) * n
            for k in range(0, n, 8):
                difference = load(left, source + k) - load(scratch.special, k)
                store(out, target + k, reduced(times_constant(difference, w, share, p), p, r))


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
