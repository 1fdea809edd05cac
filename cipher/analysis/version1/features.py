"""Step 1.2, extract features, and step 3, update the hidden layers.

The feature is the collision sum of the histogram: integers only, and unchanged by any rearrangement of the pixels.
That is why it need not be stored: the reader, having undone the alteration, holds the scrambled image, whose histogram
is the plain one's, and so finds the size of the network that scrambled it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BASE_LAYERS = 8
"""Hidden layers of every network. Three is the least at which an avalanche test sees nothing; the rest is margin."""
MOST_LAYERS = 11


@dataclass(frozen=True, slots=True)
class Features:
    """What the cipher takes from the image: how many grey levels it effectively has."""

    effective_levels: int
    """N^2 / sum of squared histogram counts, rounded down: 1 for a flat image, 256 for a uniform histogram."""

    @classmethod
    def extract(cls, histogram: NDArray[np.int64]) -> "Features":
        """From the 256 counts of the words' folded bytes (a 16-bit word's two bytes are XORed)."""
        counts = [int(count) for count in histogram]
        collisions = sum(count * count for count in counts)
        return cls(sum(counts) ** 2 // collisions)

    def hidden_layers(self) -> int:
        """8 for a rich histogram, up to 11 for a poor one."""
        return MOST_LAYERS - min(MOST_LAYERS - BASE_LAYERS, self.effective_levels.bit_length() // 2)
