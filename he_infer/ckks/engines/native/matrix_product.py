"""The sums of a feature-major batch as two matrix products.

There each answer is a sum of all inputs times single numbers. One after another, a product and its reduction take some
ten operations a residue. Here an input x is split into h and l, x = h 2^s + l, so short that sums of whole numbers W h
and W l are exact in double precision. BLAS computes them, and one reduction a sum is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.ring import Doubles

_EXACT = 2.0**52
_INT64_BITS = 62
_BLOCK = 64
"""Inputs that are split at a time: what is split stays in the processor's cache."""
LEAST_TERMS = 1024
"""Fewer products are not worth the matrix."""


@dataclass(frozen=True)
class Sum:
    """A sum of inputs times numbers: its terms as (input, number) for one prime, and the place of the result."""

    terms: tuple[tuple[int, float], ...]
    out: int


class MatrixProduct:
    """Sums over inputs that lie one after another at the beginning of a program's registers.

    Args:
        sums: the sums.
        inputs: number of inputs.
        length: residues of an input, both polynomials.
        prime: the one prime of the inputs.
    """

    def __init__(self, sums: Sequence[Sum], inputs: int, length: int, prime: int) -> None:
        self._outputs = [each.out for each in sums]
        self._inputs, self._length, self._prime = inputs, length, prime
        self._shift = _find_shift(prime)
        self._weights = _to_matrix(sums, inputs)
        block = min(_BLOCK, inputs)
        self._high, self._low = np.empty((block, length)), np.empty((block, length))
        self._sums = np.empty((2, len(sums), length))
        self._part = np.empty((len(sums), length))

    @staticmethod
    def suits(sums: Sequence[Sum], inputs: int, prime: int) -> bool:
        """Tell whether there are enough terms, and all sums are exact."""
        if sum(len(each.terms) for each in sums) < LEAST_TERMS:
            return False
        shift = _find_shift(prime)
        largest = float(np.abs(_to_matrix(sums, inputs)).sum(axis=1).max())
        piece = max(2.0**shift, prime / 2.0**shift + 1)
        return largest * piece < _EXACT and prime.bit_length() + shift <= _INT64_BITS

    def run(self, registers: Doubles) -> None:
        """Compute the sums of the inputs in the registers, between -p/2 and p/2."""
        values = registers[: self._inputs * self._length].reshape(self._inputs, self._length)
        unit = 2.0**self._shift
        self._sums[:] = 0.0
        for start in range(0, self._inputs, _BLOCK):
            block = values[start : start + _BLOCK]
            high, low = self._high[: len(block)], self._low[: len(block)]
            np.multiply(block, 1.0 / unit, out=high)
            np.rint(high, out=high)
            np.multiply(high, -unit, out=low)
            np.add(low, block, out=low)
            weights = self._weights[:, start : start + _BLOCK]
            for total, pieces in zip(self._sums, (high, low), strict=True):
                np.matmul(weights, pieces, out=self._part)
                np.add(total, self._part, out=total)
        for high_sum, low_sum, to in zip(*self._sums, self._outputs, strict=True):
            registers[to : to + self._length] = self._join(high_sum, low_sum)

    def _join(self, high: Doubles, low: Doubles) -> NDArray[np.int64]:
        prime = self._prime
        residues = ((high.astype(np.int64) % prime << self._shift) + low.astype(np.int64)) % prime
        return np.where(residues > prime // 2, residues - prime, residues)


def _find_shift(prime: int) -> int:
    return prime.bit_length() // 2


def _to_matrix(sums: Sequence[Sum], inputs: int) -> Doubles:
    matrix = np.zeros((len(sums), inputs))
    for row, each in zip(matrix, sums, strict=True):
        for index, number in each.terms:
            row[index] += number
    return matrix
