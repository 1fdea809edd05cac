"""Correlation of adjacent pixels over all pairs, in three directions (the paper's Table 2 and Fig. 4)."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cipher.analysis.pixels import Image, planes

DIRECTIONS = ("horizontal", "vertical", "diagonal")
PUBLISHED = (
    ("Kumar, Panna, Jha 2019: fractional DCT and chaos", (0.094, 0.005, 0.006)),
    ("Chandrasekaran, Thiruvengadam 2017: chaos and number theory", (0.002, 0.001, 0.001)),
    ("Chai et al. 2019: DNA operations and chaos", (-0.001, 0.009, -0.003)),
    ("the paper's own method", (-0.007, 0.005, -0.041)),
)
"""The paper's Table 2: r in the order of `DIRECTIONS`. Its row labels do not fit its bibliography: named by method."""

SIGNIFICANCE = 0.001
"""Two-sided level of the bound |r| < 3.29 / sqrt(pairs)."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of adjacent pixels in one direction."""

    direction: str
    r: float
    pairs: int

    @property
    def bound(self) -> float:
        """Bound that |r| of independent pixels stays below with probability 0.999."""
        return bound(self.pairs)

    @property
    def deviate(self) -> float:
        """The standard normal deviate of r: n independent pairs have mean -1/n and variance 1/n (Anderson, 1942)."""
        return (self.r + 1 / self.pairs) * math.sqrt(self.pairs)


def bound(pairs: int) -> float:
    """The bound on |r| at 0.1 %: 3.29 / sqrt(pairs)."""
    return float(stats.norm.isf(SIGNIFICANCE / 2)) / math.sqrt(pairs)


def adjacent(image: Image) -> tuple[Correlation, ...]:
    """The correlation in each direction that has pairs, frames and colours pooled.

    Constant pixels count as fully correlated. An image of one row has no vertical or diagonal pairs.
    """
    layers = planes(image).astype(np.float64)
    shifted = {
        "horizontal": (layers[:, :, :-1], layers[:, :, 1:]),
        "vertical": (layers[:, :-1, :], layers[:, 1:, :]),
        "diagonal": (layers[:, :-1, :-1], layers[:, 1:, 1:]),
    }
    paired = {name: pair for name, pair in shifted.items() if pair[0].size}
    return tuple(Correlation(name, pearson(*pair), pair[0].size) for name, pair in paired.items())


def pearson(left: Image, right: Image) -> float:
    """Pearson's r of two arrays of one shape; 1, the worst for a cipher, where one of them is constant."""
    x = left.astype(np.float64).ravel()
    y = right.astype(np.float64).ravel()
    x -= x.mean()
    y -= y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else 1.0
