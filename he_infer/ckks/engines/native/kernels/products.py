"""Sums of ciphertexts times whole numbers, for feature-major batches: every input of a block times a matrix of weights.

One after another, a product and its reduction take some ten operations a residue. Here an input x is split into h and
l, x = h 2^s + l, so short that a block's sums of W h and of W l are exact in double precision: two multiply-adds a
residue, and one reduction a block.
"""

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.lanes import (
    add_product,
    load,
    nearest,
    splat,
    store,
    subtract_product,
)
from he_infer.ckks.engines.native.kernels.modular import reduced, times_constant
from he_infer.ckks.engines.native.kernels.ring import Doubles

BLOCK = 32
"""Largest number of inputs in a block."""
PAGE = 32
"""Places of all inputs that are split at a time: both halves fit into the L1 cache."""


def add_block(
    inputs: Doubles,
    step: int,
    count: int,
    length: int,
    weights: NDArray[np.float64],
    first: int,
    out: Doubles,
    places: NDArray[np.int64],
    halves: Doubles,
    prime: float,
    unit: float,
    unit_modulo: float,
) -> None:
    """Add the products of `count` inputs with the columns from `first` of the weights to the sums.

    The inputs have `length` residues between -p/2 and p/2 each and are `step` elements apart. The weights are whole
    numbers, (sums, all inputs). The sums are at `places` of out; with first = 0 their present content is not read.
    halves (2 BLOCK PAGE,) is working memory, unit is 2^s, and unit_modulo the same modulo p, between -p/2 and p/2.
    """
    p, r = splat(prime), splat(1.0 / prime)
    whole, part = splat(unit), splat(1.0 / unit)
    w, share = splat(unit_modulo), splat(unit_modulo / prime)
    zero = splat(0.0)
    for start in range(0, length, PAGE):
        for index in range(count):
            for k in range(0, PAGE, 8):
                x = load(inputs, index * step + start + k)
                high = nearest(x * part)
                store(halves, 2 * PAGE * index + 2 * k, high)
                store(halves, 2 * PAGE * index + 2 * k + 8, subtract_product(x, high, whole))
        for row in range(weights.shape[0]):
            to = places[row] + start
            for k in range(0, PAGE, 16):
                h0, l0, h1, l1 = zero, zero, zero, zero
                for index in range(count):
                    weight, at = splat(weights[row, first + index]), 2 * PAGE * index + 2 * k
                    h0 = add_product(h0, weight, load(halves, at))
                    l0 = add_product(l0, weight, load(halves, at + 8))
                    h1 = add_product(h1, weight, load(halves, at + 16))
                    l1 = add_product(l1, weight, load(halves, at + 24))
                s0 = times_constant(reduced(h0, p, r), w, share, p) + reduced(l0, p, r)
                s1 = times_constant(reduced(h1, p, r), w, share, p) + reduced(l1, p, r)
                if first > 0:
                    s0 = s0 + load(out, to + k)
                    s1 = s1 + load(out, to + k + 8)
                store(out, to + k, reduced(s0, p, r))
                store(out, to + k + 8, reduced(s1, p, r))
