"""The evaluator's loop: runs instructions on registers, each an operation of `polynomials` or a key switch."""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.keyswitch import add_switched, lift_all, switch_key
from he_infer.ckks.engines.native.kernels.lanes import load, store
from he_infer.ckks.engines.native.kernels.polynomials import (
    add_encoded,
    add_values,
    add_zero,
    divide,
    multiply_values,
    permute,
    sum_products,
    to_coefficients,
    to_transform,
)
from he_infer.ckks.engines.native.kernels.ring import Doubles, Ring
from he_infer.ckks.engines.native.kernels.scratch import Scratch

COLUMNS = 8
"""operation, out, left, right, rows (primes), key (offset), first, second (their meaning depends on the operation)."""

SUM_PRODUCTS, ADD, ADD_ENCODED, ROTATE, FOLD, MULTIPLY, RESCALE, DROP, TRANSFORM, INVERT, ADD_ZERO = range(11)
LIFT, ROTATE_LIFTED, ADD_SWITCHED, DIVIDE = range(11, 15)


def execute(
    code: NDArray[np.int64],
    terms: NDArray[np.int64],
    left: Doubles,
    right: Doubles,
    out: Doubles,
    plains: Doubles,
    keys: Doubles,
    places: NDArray[np.int32],
    n: int,
    ring: Ring,
    scratch: Scratch,
    centred: bool,
) -> None:
    """Run instructions (I, COLUMNS) one after another. Offsets are in elements; a program has one array for all three.

    SUM_PRODUCTS: terms first to second; right is 1 to add to the present content of out.
    ADD: left + right. ADD_ENCODED: left + plains[right]; first is 1 for a constant.
    ROTATE: the automorphism places[first] of left, under `key`. FOLD: left plus that.
    MULTIPLY: left times right, relinearised under `key`. RESCALE: left divided by its last prime.
    DROP: left with only its first `first` primes.
    TRANSFORM: coefficients, one row for all primes (first = 0) or one a prime (first = n). INVERT: the way back.
    LIFT: the digits of left's second polynomial, for its rotations. ROTATE_LIFTED: ROTATE, with those at right.
    ADD_SWITCHED: ROTATE without the division by the special prime; second is 1 to add to the present content of out.
    DIVIDE: that sum at left divided, plus right where first is 1; rows are those of out.
    ADD_ZERO: left plus an encryption of zero under the public key at `key`, samples (3, n) at right.
    """
    for line in range(code.shape[0]):
        operation, to, a, b = code[line, 0], code[line, 1], code[line, 2], code[line, 3]
        rows, key, first, second = code[line, 4], code[line, 5], code[line, 6], code[line, 7]
        half = rows * n
        if operation == SUM_PRODUCTS:
            sum_products(terms[first:second], left, plains, out, to, rows, n, ring, b == 1)
        elif operation == ADD:
            add_values(left, a, right, b, out, to, rows, n, ring)
        elif operation == ADD_ENCODED:
            add_encoded(left, a, plains, b, first == 1, out, to, rows, n, ring)
        elif operation in (ROTATE, FOLD, MULTIPLY):
            bases = 2
            if operation == MULTIPLY:
                multiply_values(left, a, right, b, scratch.low, scratch.moved, rows, n, ring)
            else:
                permute(left, a, places[first], scratch.low, 0, rows, n)
                permute(left, a + half, places[first], scratch.moved, 0, rows, n)
                bases = 1
                if operation == FOLD:
                    bases = 2
                    for k in range(0, half, 8):
                        store(scratch.low, k, load(scratch.low, k) + load(left, a + k))
                        store(scratch.low, half + k, load(left, a + half + k))
            switch_key(
                scratch.moved,
                0,
                keys,
                key,
                scratch.low,
                bases,
                out,
                to,
                rows,
                n,
                ring,
                scratch,
                centred,
                places[0],
                False,
            )
        elif operation == ROTATE_LIFTED:
            permute(left, a, places[first], scratch.low, 0, rows, n)
            switch_key(
                right, b, keys, key, scratch.low, 1, out, to, rows, n, ring, scratch, centred, places[first], True
            )
        elif operation == ADD_SWITCHED:
            permute(left, a, places[first], scratch.low, 0, rows, n)
            permute(left, a + half, places[first], scratch.moved, 0, rows, n)
            add_switched(scratch.moved, 0, keys, key, scratch.low, out, to, rows, n, ring, scratch, second == 1)
        elif operation == DIVIDE:
            divide(left, a, ring.primes.shape[0] - 1, right, b, first == 1, out, to, rows, n, ring, scratch)
        elif operation == LIFT:
            lift_all(left, a + half, out, to, rows, n, ring, scratch)
        elif operation == RESCALE:
            divide(left, a, rows - 1, left, a, False, out, to, rows - 1, n, ring, scratch)
        elif operation == DROP:
            for comp in range(2):
                for k in range(0, first * n, 8):
                    store(out, to + comp * first * n + k, load(left, a + comp * half + k))
        elif operation == TRANSFORM:
            for j in range(rows):
                to_transform(left, a + j * first, out, to + j * n, j, n, ring, scratch.work)
        elif operation == INVERT:
            for j in range(rows):
                to_coefficients(left, a + j * n, out, to + j * n, j, n, ring)
        elif operation == ADD_ZERO:
            add_zero(left, a, right, b, keys, key, out, to, rows, n, ring, scratch)
