"""Steps 1.1 and 1.2, preprocess and extract features: integers only, each defined to the last bit.

The features are taken from a copy: every n-th row and column of a half of the image, at most 64 x 64 samples, stretched
to 0 ... 255. Each of 4 x 4 blocks has four numbers:

    mean        floor of the mean
    variance    floor of (n sum x^2 - (sum x)^2) / n^2
    gradient    floor of the sum of the absolute differences of neighbours, along and down, over n
    levels      floor of n^2 over the sum of squared counts of values: 1 for a flat block, many for a rich one

They steer the division into tiles, the number of layers and nodes of a network (step 3), and through the label of the
subkey every one of its weights. The reader finds them again: each half is scrambled under the features of the *other*
one, first the lower half under those of the upper, then the upper half under those of the scrambled lower.
"""

from dataclasses import dataclass

import numpy as np

from cipher.algorithm.engine.protocol import Engine
from cipher.algorithm.words import Words

MOST_SAMPLES = 64
"""Rows and columns of the copy, at most."""
BLOCKS = 4
"""Blocks along each side of the copy."""
LEAST_LAYERS = 4
"""Least layers of a network. An avalanche test finds no fault from three layers on."""
MOST_LAYERS = 7
LEAST_NODES = 4
MOST_NODES = 6


@dataclass(frozen=True, slots=True)
class Features:
    """Four numbers of each block; the blocks are in row-major order."""

    means: tuple[int, ...]
    variances: tuple[int, ...]
    gradients: tuple[int, ...]
    levels: tuple[int, ...]

    @classmethod
    def extract(cls, half: Words, engine: Engine) -> "Features":
        """Extract the features of half of the grid, (rows, columns) words, at least one."""
        numbers = engine.measure(half, MOST_SAMPLES, BLOCKS)
        return cls(*(tuple(column) for column in numbers.T.tolist()))

    def label(self) -> bytes:
        """All numbers, as little-endian u16: 128 bytes."""
        numbers = (*self.means, *self.variances, *self.gradients, *self.levels)
        return np.array(numbers, "<u2").tobytes()

    def layers(self) -> int:
        """Layers of a network: 4 for a half of many values, up to 7 for a half of few."""
        return MOST_LAYERS - min(MOST_LAYERS - LEAST_LAYERS, _mean(self.levels).bit_length() // 2)

    def nodes(self) -> int:
        """Nodes in a layer: 4 for a half of large gradients, up to 6 for a smooth one."""
        return MOST_NODES - min(MOST_NODES - LEAST_NODES, _mean(self.gradients).bit_length() // 2)

    def tile(self, bits: int) -> tuple[int, int]:
        """Height and width of a tile in words: small where variance and gradient are high. Rows of 192 to 320 bytes."""
        height = 64 - 8 * min(4, _mean(self.variances).bit_length() // 3)
        width = 160 - 16 * min(4, _mean(self.gradients).bit_length() // 2)
        return height, width * 16 // bits


def _mean(numbers: tuple[int, ...]) -> int:
    return sum(numbers) // len(numbers)
