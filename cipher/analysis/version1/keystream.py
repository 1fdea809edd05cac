"""A stage's key stream, read in order: the sheets of its network, one after the other."""

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.words import Words
from cipher.analysis.version1.engine import VectorisedEngine
from cipher.analysis.version1.network import SHEET_BYTES, Network


class KeyStream:
    """Reads the bytes of a network's sheets (little-endian words) from the first to as many as are asked for."""

    def __init__(self, network: Network, engine: VectorisedEngine) -> None:
        self._network = network
        self._engine = engine
        self._next_sheet = 0
        self._left = np.empty(0, np.uint8)

    def read_bytes(self, count: int) -> NDArray[np.uint8]:
        """The next `count` bytes."""
        missing = count - self._left.size
        if missing > 0:
            sheets = -(-missing // SHEET_BYTES)
            fresh = self._engine.stream(self._network, self._next_sheet, sheets)
            self._next_sheet += sheets
            fresh_bytes = fresh.astype("<u8", copy=False).view(np.uint8)
            self._left = np.concatenate([self._left, fresh_bytes]) if self._left.size else fresh_bytes
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def read(self, count: int, bits: int) -> Words:
        """The next `count` words of 8 or 16 bits."""
        if bits == 8:
            return self.read_bytes(count)
        return self.read_bytes(2 * count).view("<u2").astype(np.uint16, copy=False)

    def read_wide(self, count: int) -> NDArray[np.uint64]:
        """The next `count` words of 64 bits."""
        return self.read_bytes(8 * count).view("<u8").astype(np.uint64, copy=False)
