"""Key switching as in SEAL: one digit a prime, one special prime, rounded division by it.

A digit is the polynomial's residue modulo one prime, taken as an integer polynomial: between -p/2 and p/2 (`centred`)
or, as in SEAL, between 0 and p. Centred digits have mean zero and so no large common error in the first slot. With
SEAL's digits every residue of the result equals SEAL's.

Two ways to save transforms, for centred digits alone:

- The centred digits of a rotated polynomial are the rotated digits, up to sign. So several rotations of one ciphertext
  can share one set of transformed digits ("hoisting"): `lift_all` makes it, and `switch_key` reorders it. The residues
  are those of single rotations.
- A sum of several rotations is divided by the special prime once: `add_switched` sums what is not yet divided, and
  `divide` divides it. It is rounded once in place of once a rotation: the residues are not those of single
  rotations, and the error is smaller.
"""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import Lanes, helper, inlined
from he_infer.ckks.engines.native.kernels.lanes import load, splat, store
from he_infer.ckks.engines.native.kernels.modular import reduced, times, times_constant
from he_infer.ckks.engines.native.kernels.polynomials import permute, to_coefficients, to_transform
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring
from he_infer.ckks.engines.native.kernels.scratch import Scratch

_UNREDUCED = 4
"""Products summed before the sum is reduced: 4 * 0.75 p and a reduced one stay below 2^52."""


@helper
def switch_key(
    polynomial: Doubles,
    at: int,
    keys: Doubles,
    key: int,
    base: Doubles,
    bases: int,
    out: Doubles,
    to: int,
    rows: int,
    n: int,
    ring: Ring,
    scratch: Scratch,
    centred: bool,
    places: NDArray[np.int32],
    shared: bool,
) -> None:
    """Base (its first `bases` of two polynomials) plus polynomial (rows, n) under the key's own secret.

    A key is (digits, 2, primes, n), special prime last. With `shared`, the polynomial is what `lift_all` made of it
    (rows + 1, rows, n), and the automorphism `places` is applied to it.
    """
    top = ring.primes.shape[0] - 1
    if shared:
        permute(polynomial, at + rows * rows * n, places, scratch.lifted, 0, rows, n)
    else:
        _decompose(polynomial, at, rows, n, ring, scratch, centred)
        _lift(polynomial, at, top, scratch.lifted, 0, rows, n, ring, scratch)
    p, r = splat(ring.primes[top]), splat(ring.reciprocals[top])
    stride = (top + 1) * n
    for k in range(0, n, 8):
        first = _inner(scratch.lifted, keys, key + top * n, stride, rows, n, k, p, r)
        second = _inner(scratch.lifted, keys, key + stride + top * n, stride, rows, n, k, p, r)
        store(scratch.special, k, first)
        store(scratch.special, n + k, second)
    for comp in range(2):
        to_coefficients(scratch.special, comp * n, scratch.dropped, comp * n, top, n, ring)
    for j in range(rows):
        if shared:
            permute(polynomial, at + j * rows * n, places, scratch.lifted, 0, rows, n)
        else:
            _lift(polynomial, at, j, scratch.lifted, 0, rows, n, ring, scratch)
        for comp in range(2):
            to_transform(scratch.dropped, comp * n, scratch.special, comp * n, j, n, ring, scratch.work)
        p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
        w, share = splat(ring.prime_inverses[top, j, 0]), splat(ring.prime_inverses[top, j, 1])
        first_row, second_row = j * n, (rows + j) * n
        for k in range(0, n, 8):
            first = _inner(scratch.lifted, keys, key + j * n, stride, rows, n, k, p, r) - load(scratch.special, k)
            second = _inner(scratch.lifted, keys, key + stride + j * n, stride, rows, n, k, p, r) - load(
                scratch.special, n + k
            )
            first = times_constant(first, w, share, p)
            second = times_constant(second, w, share, p)
            if bases > 0:
                first = first + load(base, first_row + k)
            if bases > 1:
                second = second + load(base, second_row + k)
            store(out, to + first_row + k, reduced(first, p, r))
            store(out, to + second_row + k, reduced(second, p, r))


@helper
def add_switched(
    polynomial: Doubles,
    at: int,
    keys: Doubles,
    key: int,
    base: Doubles,
    out: Doubles,
    to: int,
    rows: int,
    n: int,
    ring: Ring,
    scratch: Scratch,
    add: bool,
) -> None:
    """Compute what `divide` makes base (rows, n) plus the switched polynomial of: (2, rows + 1, n).

    The result has the special prime last. With `add` it is added to the present content of `out`.
    """
    top = ring.primes.shape[0] - 1
    stride = (top + 1) * n
    _decompose(polynomial, at, rows, n, ring, scratch, True)
    for row in range(rows + 1):
        j = row if row < rows else top
        _lift(polynomial, at, j, scratch.lifted, 0, rows, n, ring, scratch)
        p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
        w, share = splat(ring.special_residues[j, 0]), splat(ring.special_residues[j, 1])
        first_row, second_row = to + row * n, to + (rows + 1 + row) * n
        for k in range(0, n, 8):
            first = _inner(scratch.lifted, keys, key + j * n, stride, rows, n, k, p, r)
            second = _inner(scratch.lifted, keys, key + stride + j * n, stride, rows, n, k, p, r)
            if row < rows:
                first = first + times_constant(load(base, row * n + k), w, share, p)
            if add:
                first = first + load(out, first_row + k)
                second = second + load(out, second_row + k)
            store(out, first_row + k, reduced(first, p, r))
            store(out, second_row + k, reduced(second, p, r))


@helper
def lift_all(
    polynomial: Doubles, at: int, out: Doubles, to: int, rows: int, n: int, ring: Ring, scratch: Scratch
) -> None:
    """Transform the centred digits of a polynomial modulo its primes, last the special one: (rows + 1, rows, n)."""
    _decompose(polynomial, at, rows, n, ring, scratch, True)
    for j in range(rows):
        _lift(polynomial, at, j, out, to + j * rows * n, rows, n, ring, scratch)
    _lift(polynomial, at, ring.primes.shape[0] - 1, out, to + rows * rows * n, rows, n, ring, scratch)


@helper
def _decompose(polynomial: Doubles, at: int, rows: int, n: int, ring: Ring, scratch: Scratch, centred: bool) -> None:
    """Compute the coefficients of all digits."""
    for i in range(rows):
        to_coefficients(polynomial, at + i * n, scratch.digits, i * n, i, n, ring)
        if not centred:
            prime = ring.primes[i]
            for k in range(i * n, i * n + n):
                if scratch.digits[k] < 0.0:
                    scratch.digits[k] += prime


@helper
def _lift(
    polynomial: Doubles, at: int, j: int, out: Doubles, to: int, rows: int, n: int, ring: Ring, scratch: Scratch
) -> None:
    """Transform all digits modulo prime j; digit j itself is already transformed in the polynomial."""
    for i in range(rows):
        if i == j:
            for k in range(0, n, 8):
                store(out, to + i * n + k, load(polynomial, at + i * n + k))
        else:
            to_transform(scratch.digits, i * n, out, to + i * n, j, n, ring, scratch.work)


@inlined
def _inner(
    lifted: Doubles, keys: Doubles, key: int, stride: int, rows: int, n: int, k: int, p: Lanes, r: Lanes
) -> Lanes:
    """Multiply eight places of the digits by one column of the key, sum and reduce."""
    total = times(load(lifted, k), load(keys, key + k), p, r)
    for i in range(1, rows):
        total = total + times(load(lifted, i * n + k), load(keys, key + 2 * i * stride + k), p, r)
        if i % _UNREDUCED == 0:
            total = reduced(total, p, r)
    return reduced(total, p, r)
