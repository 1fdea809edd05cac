"""Working memory of one evaluator: allocated once, so that no operation allocates. Only one thread may use it."""

from typing import NamedTuple

import numpy as np

from he_infer.ckks.engines.native.kernels.ring import Doubles


class Scratch(NamedTuple):
    """n is the ring's size, L the primes that carry data."""

    digits: Doubles
    """(L n,) a polynomial's residues as coefficients."""
    lifted: Doubles
    """(L n,) the polynomial's residues, transformed modulo one prime."""
    special: Doubles
    """(2 n,) sums modulo the special prime, then their transforms modulo another."""
    dropped: Doubles
    """(2 n,) coefficients modulo a prime that is divided away."""
    work: Doubles
    """(n,) working memory of a transform."""
    moved: Doubles
    """(L n,) the polynomial whose key is switched."""
    low: Doubles
    """(2 L n,) polynomials that a key switch adds to."""


def make_scratch(size: int, rows: int) -> Scratch:
    """Allocate working memory for ciphertexts of up to `rows` primes."""
    shapes = (rows, rows, 2, 2, 1, rows, 2 * rows)
    return Scratch(*(np.zeros(count * size) for count in shapes))
