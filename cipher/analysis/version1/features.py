"""Step 1.2, extract features, and step 3, update the hidden layers.

The feature is the collision sum of the histogram: integers only, and unchanged by any rearrangement of the pixels.
That is why it need not be stored: the reader, having undone the alteration, holds the scrambled image, whose histogram
is the plain one's, and so finds the size of the network that scrambled it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BASE_LAYERS = 8
"""Least hidden layers of a network. An avalanche test finds no fault from three layers on; the rest is margin."""
MOST_LAYERS = 11


@dataclass(frozen=True, slots=True)
class Features:
    """The feature that the cipher takes from the image: its effective number of grey levels."""

    effective_levels: int
    """N^2 / sum of squared histogram counts, rounded down: 1 for a flat image, 256 for a uniform histogram."""

    @classmethod
    def extract(cls, histogram: NDArray[np.int64]) -> "Features":
        """Extract the feature from the 256 counts of the words' folded bytes (a 16-bit word's two bytes are XORed)."""
        counts = [int(count) for count in histogram]
        collisions = sum(count * count for count in counts)
        return cls(sum(counts) ** 2 // collisions)

    def hidden_layers(self) -> int:
        """8 for a histogram of many grey levels, up to 11 for one of few."""
        return MOST_LAYERS - min(MOST_LAYERS - BASE_LAYERS, self.effective_levels.bit_length() // 2)
