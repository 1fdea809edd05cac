"""A stage's key stream, read in order: the sheets of its network, one after the other."""

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine.protocol import Engine
from cipher.algorithm.weights import Network


class KeyStream:
    """Reads the bytes of a network's sheets (little-endian words) from the first to as many as are asked for."""

    def __init__(self, network: Network, engine: Engine) -> None:
        self._network = network
        self._engine = engine
        self._next_sheet = 0
        self._left = b""

    def read(self, count: int, dtype: str) -> NDArray[np.unsignedinteger]:
        """The next `count` little-endian words of `dtype`, '<u4' or '<u8'."""
        wanted = count * int(dtype[2:])
        missing = wanted - len(self._left)
        if missing > 0:
            sheets = -(-missing // self._network.sheet_bytes)
            words = np.zeros(sheets * self._network.sheet_bytes // 8, np.uint64)
            self._engine.add_stream(self._network, self._next_sheet, words)
            self._next_sheet += sheets
            self._left += words.astype("<u8", copy=False).tobytes()
        taken, self._left = self._left[:wanted], self._left[wanted:]
        return np.frombuffer(taken, dtype).astype(dtype[1:], copy=False)
