"""The work of a plan for an evaluator with one digit a prime: transforms, and bytes of keys read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from he_infer.ckks.planning.circuit import Circuit
    from he_infer.ckks.planning.plan import Plan

_WORD = 8


@dataclass(frozen=True)
class Work:
    """Counts of one evaluation, without parsing requests and writing answers."""

    transforms: int
    """Number-theoretic transforms modulo one prime, forward or inverse."""
    key_bytes: int
    """Bytes of evaluation keys that key switches read, eight a residue."""


def count_work(plan: "Plan", circuit: "Circuit") -> Work:
    """Count a plan's work.

    A key switch of L primes takes L inverse transforms for its digits, L - 1 of each digit again for the other primes
    and one for the special prime, and for the division by that one 2 inverse and 2 L forward transforms, which are
    (L + 1)(L + 2). It reads L digits of a key, each two polynomials modulo L + 1 primes. Rescaling L primes takes 2
    inverse and 2 (L - 1) forward transforms, and a fresh zero at level 0 three.
    """
    from he_infer.ckks.planning.cost import count_primitives

    transforms = key_bytes = 0
    for each in count_primitives(plan, circuit):
        primes = each.level + 1
        if each.primitive in ("rotate", "square", "product"):
            transforms += each.times * (primes + 1) * (primes + 2)
            key_bytes += each.times * 2 * primes * (primes + 1) * plan.parameters.ring_size * _WORD
        elif each.primitive == "rescale":
            transforms += each.times * 2 * primes
        elif each.primitive == "refresh":
            transforms += each.times * 3
        elif each.primitive == "dump":
            transforms += each.times * 2
    return Work(transforms, key_bytes)
