"""The engine's protocol. Tests hold both engines to one contract and to the frozen vectors."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.tiles import Division
from cipher.algorithm.weights import Network
from cipher.algorithm.words import Words


class Engine(Protocol):
    """The loops over words."""

    name: str

    def add_stream(self, network: Network, first_sheet: int, words: NDArray[np.uint64]) -> None:
        """Xor the network's key stream into `words`, in place, from the beginning of sheet `first_sheet` on."""
        ...

    def choose(self, candidates: NDArray[np.uint64], chosen: NDArray[np.uint64], filled: int) -> int:
        """Copy effective layers, in their order, into `chosen` from place `filled` on, until it is full.

        A layer is effective if its weights are invertible mod 2 (hence mod 2^64) and any two of them differ in at least
        `cipher.algorithm.weights.LEAST_DISTANCE` bits.

        Args:
            candidates: (C, N, N + 1): rows of weights, and a bias behind each.
            chosen: (L, N, N + 1).
            filled: places that are full.

        Returns:
            Places that are full now.
        """
        ...

    def least_influence(self, network: Network) -> tuple[int, int]:
        """Least number of output bits that any parameter or node of a network of two layers or more changes.

        Over the inputs 0 to `PROBES` - 1, the lowest bit of each weight and bias is flipped, and each node's output
        replaced by 0.

        Returns:
            Of all but the last layer; and of the last layer's weights and biases.
        """
        ...

    def measure(self, half: Words, most: int, blocks: int) -> NDArray[np.int64]:
        """Mean, variance, gradient and levels of blocks of a copy of `half`: (blocks * blocks, 4).

        Args:
            half: (rows, columns), at least one word; see `cipher.algorithm.features`, which defines the numbers.
            most: rows and columns of the copy, at most.
            blocks: blocks along each side of the copy.
        """
        ...

    def gather(self, half: Words, division: Division, vector: Words) -> None:
        """Read the tiles of `half` (rows, columns) in order into `vector`, rows in order and turned, and bits turned.

        The tiles of a strip, row by row, are shuffled: from the last place i down to 1, exchange it with place draw(i)
        (i + 1) >> 32.
        Row i of a tile is row order[i] of the tile in the vector, where order is 0, 1, ... shuffled after Fisher and
        Yates: from the last i down to 1, exchange order[i] with order[(draw(i) mod 2^16) (i + 1) >> 16]. The row's
        own draw gives its manner: word j in the vector is the row's word (j + turn) mod width, its bits rotated left.
        """
        ...

    def scatter(self, vector: Words, division: Division, half: Words) -> None:
        """The inverse of `gather`."""
        ...
