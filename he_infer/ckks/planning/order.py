"""When steps are done relative to a rescaling, and which digits a key switch has: what a plan states of its engine."""

from dataclasses import dataclass
from enum import StrEnum


class Moment(StrEnum):
    """Before or after a rescaling."""

    BEFORE = "before"
    AFTER = "after"


class Digits(StrEnum):
    """The range of a key switch's digits modulo a prime q, on which its error in the first slots depends.

    An engine with centred digits carries out either kind of plan, with smaller errors than predicted where the plan
    says positive. An engine with positive digits, as SEAL has them, must not carry out a plan made for centred ones.
    """

    POSITIVE = "positive"
    """0 .. q - 1: their mean is not zero, and it appears in the first slots."""
    CENTRED = "centred"
    """-(q - 1)/2 .. (q - 1)/2."""


@dataclass(frozen=True)
class Order:
    """The order of a plan's steps.

    `folds`: the folds and the conjugation of a hidden layer, relative to the rescaling of its linear map; `before`
    costs key switches of one prime more each, and keeps their errors small against the product's large scale. Where
    the linear map is not rescaled it is `before`.

    `output`: the products of the last layer, relative to the last activation's last rescaling. `before` gives them the
    room of two primes, and one rescaling an answer in place of one a hidden ciphertext. A plan without hidden layers
    rescales nothing and states `before`.
    """

    folds: Moment = Moment.BEFORE
    output: Moment = Moment.BEFORE
