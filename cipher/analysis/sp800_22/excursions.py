"""Tests of the cycles of the +-1 walk: random excursions and their variant (2.14, 2.15)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cipher.analysis.sp800_22.bits import Bits

STATES = (-4, -3, -2, -1, 1, 2, 3, 4)
VARIANT_STATES = tuple(x for x in range(-9, 10) if x != 0)


@dataclass(frozen=True)
class Walk:
    """The partial sums of +-1 steps, closed by a return to zero, and the number of the cycle each belongs to."""

    positions: NDArray[np.int64]
    cycle: NDArray[np.int64]
    cycles: int

    @classmethod
    def of(cls, bits: Bits) -> "Walk":
        """Build the walk, 2.14.4 (1) to (3); the final zero is appended only if the walk does not end there."""
        positions = np.cumsum(2 * bits.astype(np.int64) - 1)
        if positions[-1] != 0:
            positions = np.append(positions, 0)
        zero = positions == 0
        # A zero closes its cycle, so it belongs to the cycle before the count goes up.
        return cls(positions, np.cumsum(zero) - zero, int(zero.sum()))

    def enough(self, n: int) -> bool:
        """Whether the tests apply: at least max(0.005 sqrt(n), 500) cycles, 2.14.7."""
        return self.cycles >= max(0.005 * math.sqrt(n), 500)


def random_excursions(walk: Walk) -> NDArray[np.float64]:
    """P-values of the random excursions test, 2.14, for the states -4 .. -1, 1 .. 4."""
    values = []
    for state in STATES:
        visits = np.bincount(walk.cycle[walk.positions == state], minlength=walk.cycles)
        counts = np.bincount(np.minimum(visits, 5), minlength=6)
        expected = walk.cycles * visit_probabilities(state)
        values.append(float(special.gammaincc(2.5, float(((counts - expected) ** 2 / expected).sum()) / 2)))
    return np.array(values)


def random_excursions_variant(walk: Walk) -> NDArray[np.float64]:
    """P-values of the random excursions variant test, 2.15, for the states -9 .. -1, 1 .. 9."""
    values = []
    for state in VARIANT_STATES:
        visits = int(np.count_nonzero(walk.positions == state))
        spread = math.sqrt(2 * walk.cycles * (4 * abs(state) - 2))
        values.append(math.erfc(abs(visits - walk.cycles) / spread))
    return np.array(values)


def visit_probabilities(state: int) -> NDArray[np.float64]:
    """Probabilities that a cycle visits a state 0, 1, .. 4, and 5 or more times, 3.14."""
    leave = 1 / (2 * abs(state))
    stay = 1 - leave
    return np.array([stay] + [leave**2 * stay ** (k - 1) for k in range(1, 5)] + [leave * stay**4])
