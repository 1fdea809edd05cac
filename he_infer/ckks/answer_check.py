"""Checks that an answer was opened with the right key: some of its numbers must be near zero.

A wrong key, another key set at the server, or bytes that are no answer open to numbers spread evenly over the modulus.
The checks are coefficients in which an honest evaluation leaves only noise, so a random number passes a check only if
it happens to lie within the noise. A layout may have no free coefficient (`Selection.checks` is then 0); then only the
range of the scores can be checked, see `he_infer.head.score_bounds`.
"""

import math
from collections.abc import Sequence

from he_infer.ckks.answer import OpenedAnswer
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.scale_walk import walk_scales

ROOM = 2.0
"""Largest absolute value of a check, in units of the plan's precision. The server's noise takes half a unit of it."""


def checks_hold(plan: Plan, answers: Sequence[OpenedAnswer]) -> bool:
    """Whether every check of a request's answers is near zero."""
    return all(bool((abs(answer.checks) <= ROOM * plan.precision).all()) for answer in answers)


def count_checks(plan: Plan) -> int:
    """Count the checks in a request's answers."""
    return sum(plan.output.selection(target).checks for target in range(plan.targets))


def largest_number(plan: Plan, primes: Sequence[int]) -> float:
    """Return the largest number that an answer can open to, in units of scores: half of the modulus."""
    return primes[0] / (2 * walk_scales(plan, primes).answer_scale * plan.gain)


def chance_to_hold(plan: Plan) -> float:
    """Return the chance that the checks hold for numbers spread evenly over the modulus; 1 if there are no checks."""
    primes = [1 << bits for bits in plan.parameters.modulus_bits]
    one = min(1.0, ROOM * plan.precision / largest_number(plan, primes))
    return math.pow(one, count_checks(plan))
