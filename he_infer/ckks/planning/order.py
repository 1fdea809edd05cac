"""Order of steps relative to a rescaling, and range of a key switch's digits, as a plan states them."""

from dataclasses import dataclass
from enum import StrEnum


class Moment(StrEnum):
    """Before or after a rescaling."""

    BEFORE = "before"
    AFTER = "after"


class Digits(StrEnum):
    """The range of a key switch's digits modulo a prime q, on which its error in the first slots depends.

    An engine with centred digits runs both kinds of plan, and with smaller errors than predicted if the plan says
    positive. An engine with positive digits, such as SEAL, must not run a plan made for centred ones.
    """

    POSITIVE = "positive"
    """0 .. q - 1: their mean is not zero and adds an error in the first slots."""
    CENTRED = "centred"
    """-(q - 1)/2 .. (q - 1)/2."""


@dataclass(frozen=True)
class Order:
    """The order of a plan's steps.

    `folds`: the folds and the conjugation of a hidden layer, relative to the rescaling of its linear map. `before`
    makes each key switch one prime larger, and keeps its error small against the product's large scale. It is `before`
    if the linear map is not rescaled.

    `output`: the products of the last layer, relative to the last activation's last rescaling. `before` gives them two
    primes of modulus, and rescales each answer instead of each hidden ciphertext. A plan without hidden layers rescales
    nothing and states `before`.
    """

    folds: Moment = Moment.BEFORE
    output: Moment = Moment.BEFORE
