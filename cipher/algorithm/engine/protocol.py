"""What an engine computes. The two engines are held to one contract by the tests, and to the frozen vectors."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.network import Network
from cipher.algorithm.words import Words


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Keyed constants of one sweep over the rows of a grid; w is the size of a word in bits."""

    forward: int
    """a, odd, below 2^w: weight of the row before."""
    sideways: int
    """b, odd, below 2^w, or 0 where a row has one word: weight of the row before, rolled."""
    shift: int
    """s, 1 to columns - 1 (0 where a row has one word): how far it is rolled."""
    offset: Words
    """d, one word a column."""
    start: Words
    """What stands for the row before the first, one word a column."""


class Engine(Protocol):
    """The loops over words."""

    name: str

    def stream(self, network: Network, first_sheet: int, sheets: int) -> NDArray[np.uint64]:
        """`sheets` sheets of the network's key stream, from number `first_sheet` on: (sheets * 1024,) uint64."""
        ...

    def histogram(self, words: Words) -> NDArray[np.int64]:
        """Counts of the words' bytes, a 16-bit word's two bytes XORed: (256,)."""
        ...

    def gather(self, grid: Words, tiles: NDArray[np.int64], pool: NDArray[np.int64], vector: Words) -> None:
        """Read the tiles of `grid` in order, each in a permuted order, into `vector`.

        See `cipher.algorithm.partition`.
        """
        ...

    def scatter(self, vector: Words, tiles: NDArray[np.int64], pool: NDArray[np.int64], grid: Words) -> None:
        """The inverse of `gather`."""
        ...

    def alter(self, grid: Words, rows: range, keys: Words, before: Words, sweep: Sweep) -> Words:
        """Alter some rows of `grid` in place, each by the altered one before it; give a copy of the last.

        c[r] = (x[r] xor k[r]) + q(a c[r-1] + b roll(c[r-1], s) + d) mod 2^w, with q(v) = fold(v (2v + 1)),
        fold(v) = v xor (v >> w/2), roll(p, s)[j] = p[(j + s) mod columns].

        Args:
            grid: (rows, columns), C-contiguous.
            rows: which ones, in the order of processing; may run backwards.
            keys: key stream, (len(rows), columns), or (len(rows), 1) for one word a row.
            before: the row before the first of `rows`, altered, (columns,).
            sweep: the constants.
        """
        ...

    def restore(self, grid: Words, rows: range, keys: Words, before: Words, sweep: Sweep) -> Words:
        """The inverse of `alter` with the same arguments; gives a copy of the last row as it was before restoring."""
        ...

    def transpose(self, grid: Words) -> Words:
        """A C-contiguous copy with rows and columns exchanged."""
        ...
