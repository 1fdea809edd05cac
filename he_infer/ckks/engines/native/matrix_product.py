"""The sums of a feature-major batch as one matrix product, block by block of a request's ciphertexts.

There each answer is a sum of all inputs times single numbers; `kernels.products` computes them. A block of inputs is
parsed and used while it is in the processor's cache, so that the whole request is never in memory as residues.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from he_infer.ckks.engines.native.kernels.entry_points import Kernels
from he_infer.ckks.engines.native.kernels.products import BLOCK, PAGE
from he_infer.ckks.engines.native.kernels.ring import Doubles
from he_infer.ckks.planning.cost import LEAST_MATRIX

_EXACT = 2.0**52
_APART = 64
"""Elements between inputs: at a power of two's distance they would share a few places of the L1 cache."""


@dataclass(frozen=True)
class Sum:
    """A sum of inputs times numbers: its terms as (input, number) for one prime, and the place of the result."""

    terms: tuple[tuple[int, float], ...]
    out: int


class MatrixProduct:
    """Sums over all inputs of a program.

    Args:
        sums: the sums.
        inputs: number of inputs.
        length: residues of an input, both polynomials.
        prime: the one prime of the inputs.
        kernels: compiled code.
    """

    def __init__(self, sums: Sequence[Sum], inputs: int, length: int, prime: int, kernels: Kernels) -> None:
        self._outputs = np.array([each.out for each in sums], dtype=np.int64)
        self._inputs, self._length, self._prime, self._kernels = inputs, length, prime, kernels
        self._weights = _to_matrix(sums, inputs)
        self._step = length + _APART
        self._held = np.empty(min(BLOCK, inputs) * self._step)
        self._halves = np.empty(2 * BLOCK * PAGE)
        unit = 1 << _find_shift(prime)
        self._unit, self._unit_modulo = float(unit), float(unit if unit <= prime // 2 else unit - prime)

    @staticmethod
    def suits(sums: Sequence[Sum], inputs: int, prime: int) -> bool:
        """Tell whether there are enough terms, and all sums of a block are exact."""
        if sum(len(each.terms) for each in sums) < LEAST_MATRIX:
            return False
        shift = _find_shift(prime)
        sizes = np.abs(_to_matrix(sums, inputs))
        largest = max(float(sizes[:, start : start + BLOCK].sum(axis=1).max()) for start in range(0, inputs, BLOCK))
        piece = max(2.0**shift, prime / 2.0**shift + 1)
        return largest * piece < _EXACT

    def run(self, load: Callable[[int, int, Doubles, int], None], registers: Doubles) -> None:
        """Compute the sums into the registers.

        Args:
            load: writes residues between -p/2 and p/2; called with the first input, the number of inputs, the array,
                and the distance of two inputs in it.
            registers: where the sums go.
        """
        for first in range(0, self._inputs, BLOCK):
            count = min(BLOCK, self._inputs - first)
            load(first, count, self._held, self._step)
            self._kernels.add_block(
                self._held,
                self._step,
                count,
                self._length,
                self._weights,
                first,
                registers,
                self._outputs,
                self._halves,
                float(self._prime),
                self._unit,
                self._unit_modulo,
            )


def _find_shift(prime: int) -> int:
    return prime.bit_length() // 2


def _to_matrix(sums: Sequence[Sum], inputs: int) -> Doubles:
    matrix = np.zeros((len(sums), inputs))
    for row, each in zip(matrix, sums, strict=True):
        for index, number in each.terms:
            row[index] += number
    return matrix
