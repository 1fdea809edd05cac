"""The whole attack: chosen images, an equivalent key, and unseen images read with it."""

from dataclasses import dataclass

import numpy as np

from cipher.analysis.equivalent_key.downward import solve_downward
from cipher.analysis.equivalent_key.leftward import solve_leftward
from cipher.analysis.equivalent_key.oracle import COLUMNS, ROWS, AttackFailed, Encrypt, Grid, Oracle
from cipher.analysis.equivalent_key.rightward import Rightward, find_order, solve_rightward
from cipher.analysis.equivalent_key.solvers import Ints
from cipher.analysis.equivalent_key.upward import find_rows, solve_upward

SHAPE = (ROWS, COLUMNS)
"""Shape of the images that the attack chooses and reads."""


@dataclass(frozen=True, slots=True, eq=False)
class EquivalentKey:
    """Constants that decipher images of `SHAPE` under the victim's key and salt."""

    sweeps: Rightward
    order: Ints

    def read(self, cipher_image: Grid) -> Grid:
        """The plain image as far as the constants are right; words that they give no place for are 0."""
        vector = self.sweeps.undo(cipher_image)
        image = np.zeros(ROWS * COLUMNS, cipher_image.dtype)
        placed = self.order < image.size
        image[self.order[placed]] = vector[placed]
        return image.reshape(SHAPE)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The outcome of the attack on one key."""

    key: EquivalentKey | None
    """None if the attack gave up."""
    images: int
    """Chosen images that were enciphered."""
    stage: str
    """The sweep at which it gave up, or "read"."""

    def share_read(self, image: Grid, cipher_image: Grid) -> float:
        """Share of an unseen image's pixels that the attack reads right; none if it gave up."""
        return 0.0 if self.key is None else float((self.key.read(cipher_image) == image).mean())


def find_equivalent_key(encrypt: Encrypt, bits: int, rng: np.random.Generator) -> Outcome:
    """Attack one key and salt.

    Args:
        encrypt: the victim, for images of `SHAPE` and unsigned words of `bits`.
        bits: 8 or 16.
        rng: chooses pixels and values.
    """
    oracle, stage = Oracle(encrypt, bits, rng), "last sweep"
    try:
        upward = solve_upward(oracle)
        rows = find_rows(oracle, upward)
        stage = "third sweep"
        downward = solve_downward(oracle, upward, rows)
        stage = "second sweep"
        leftward = solve_leftward(oracle, downward)
        stage = "first sweep"
        rightward = solve_rightward(oracle, leftward)
        order = find_order(oracle, rightward)
    except AttackFailed:
        return Outcome(None, oracle.images, stage)
    return Outcome(EquivalentKey(rightward, order), oracle.images, "read")
