"""A stage's key stream from its beginning: the sheets of its network, one after the other."""

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.protocol import Engine
from cipher.algorithm.weights import Network


def read_stream(network: Network, count: int, engine: Engine) -> NDArray[np.uint64]:
    """The first words of the key stream, little-endian on every machine, so that it can be viewed as smaller words."""
    words = np.zeros(count, np.uint64)
    engine.add_stream(network, 0, words)
    return words.astype("<u8", copy=False)
