"""Does an opened answer belong to the key that opened it? Numbers that must be near zero say so.

A wrong key, another key set at the server, or bytes that are no answer open to numbers spread evenly over the modulus.
The checks are coefficients in which an honest evaluation leaves nothing but noise, so each passes by chance only where
its number happens to lie within the noise. A layout may have no coefficient to spare (`Selection.checks` is then 0);
the range of the scores is what is left to check there, see `he_infer.head.score_bounds`.
"""

import math
from collections.abc import Sequence

from he_infer.ckks.answer import OpenedAnswer
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.scale_walk import walk_scales

ROOM = 2.0
"""By how many times the plan's precision a check may be off zero. Half of one is noise that the server adds."""


def checks_hold(plan: Plan, answers: Sequence[OpenedAnswer]) -> bool:
    """Whether every check of a request's answers is near zero."""
    return all(bool((abs(answer.checks) <= ROOM * plan.precision).all()) for answer in answers)


def count_checks(plan: Plan) -> int:
    """Checks in a request's answers."""
    return sum(plan.output.selection(target).checks for target in range(plan.targets))


def largest_number(plan: Plan, primes: Sequence[int]) -> float:
    """The largest number that an answer can open to, in units of scores: half of the modulus."""
    return primes[0] / (2 * walk_scales(plan, primes).answer_scale * plan.gain)


def chance_to_hold(plan: Plan) -> float:
    """The chance that the checks hold for numbers spread evenly over the modulus; 1 where there are none."""
    primes = [1 << bits for bits in plan.parameters.modulus_bits]
    one = min(1.0, ROOM * plan.precision / largest_number(plan, primes))
    return math.pow(one, count_checks(plan))
