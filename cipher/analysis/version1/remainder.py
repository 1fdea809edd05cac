"""The words that do not fill a folded grid's last row: mixed into the grid before, and with it after.

    before:  block[:m] += q(rest xor k1)           so that the whole grid depends on them
    after:   rest = (rest xor k2) + q(block[:m] xor k3)   so that they depend on the whole grid

m < columns. Each step is undone without knowing what it hides: an unbalanced Feistel network of two rounds around
the grid's four sweeps.
"""

from dataclasses import dataclass

import numpy as np

from cipher.algorithm.words import Words
from cipher.analysis.version1.keystream import KeyStream


@dataclass(frozen=True, slots=True, eq=False)
class RemainderKeys:
    """m words for each step."""

    absorb: Words
    whiten: Words
    release: Words

    @classmethod
    def draw(cls, stream: KeyStream, count: int, bits: int) -> "RemainderKeys":
        """Read from the beginning of the remainder stage's key stream, one after the other."""
        return cls(*(stream.read(count, bits).copy() for _ in range(3)))


def absorb(block: Words, rest: Words, keys: RemainderKeys) -> None:
    """Mix the remainder into the block, in place."""
    block[: rest.size] += _q(rest ^ keys.absorb)


def unabsorb(block: Words, rest: Words, keys: RemainderKeys) -> None:
    """The inverse of `absorb`."""
    block[: rest.size] -= _q(rest ^ keys.absorb)


def release(block: Words, rest: Words, keys: RemainderKeys) -> Words:
    """The remainder as it is saved, from the altered block."""
    return (rest ^ keys.whiten) + _q(block[: rest.size] ^ keys.release)


def unrelease(block: Words, saved: Words, keys: RemainderKeys) -> Words:
    """The inverse of `release`."""
    return (saved - _q(block[: saved.size] ^ keys.release)) ^ keys.whiten


def _q(v: Words) -> Words:
    """The sweeps' bijection: v (2v + 1), its high half folded into the low one."""
    squared = np.multiply(v, np.bitwise_or(np.left_shift(v, 1), 1))
    folded: Words = np.bitwise_xor(squared, np.right_shift(squared, 4 * v.itemsize))
    return folded
