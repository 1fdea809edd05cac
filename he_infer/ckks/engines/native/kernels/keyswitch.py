"""Key switching as in SEAL: one digit a prime, one special prime, rounded division by it.

A digit is the polynomial's residue modulo one prime, taken as an integer polynomial: between -p/2 and p/2 (`centred`)
or, as in SEAL, between 0 and p. Centred digits have mean zero and so no large common error in the first slot. With
SEAL's digits every residue of the result equals SEAL's.
"""

from he_infer.ckks.engines.native.kernels.compiling import Lanes, helper, inlined
from he_infer.ckks.engines.native.kernels.lanes import load, splat, store
from he_infer.ckks.engines.native.kernels.modular import reduced, times, times_constant
from he_infer.ckks.engines.native.kernels.polynomials import to_coefficients, to_transform
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
) -> None:
    """Base (its first `bases` of two polynomials) plus polynomial (rows, n) under the key's own secret.

    A key is (digits, 2, primes, n), special prime last.
    """
    top = ring.primes.shape[0] - 1
    for i in range(rows):
        to_coefficients(polynomial, at + i * n, scratch.digits, i * n, i, n, ring)
        if not centred:
            prime = ring.primes[i]
            for k in range(i * n, i * n + n):
                if scratch.digits[k] < 0.0:
                    scratch.digits[k] += prime
    _lift(polynomial, at, top, rows, n, ring, scratch)
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
        _lift(polynomial, at, j, rows, n, ring, scratch)
        for comp in range(2):
            to_transform(scratch.dropped, comp * n, scratch.special, comp * n, j, n, ring, scratch.work)
        p, r = splat(ring.primes[j]), splat(ring.reciprocals[j])
        w, share = splat(ring.special_inverses[j, 0]), splat(ring.special_inverses[j, 1])
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
def _lift(polynomial: Doubles, at: int, j: int, rows: int, n: int, ring: Ring, scratch: Scratch) -> None:
    """Transform all digits modulo prime j; digit j itself is already transformed in the polynomial."""
    for i in range(rows):
        if i == j:
            for k in range(0, n, 8):
                store(scratch.lifted, i * n + k, load(polynomial, at + i * n + k))
        else:
            to_transform(scratch.digits, i * n, scratch.lifted, i * n, j, n, ring, scratch.work)


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
