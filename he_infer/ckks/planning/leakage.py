"""Bounds on the bits of a head that an answer reveals, also to a client with a crafted public part.

Under `hidden` the server sends two things for each answer: c1, re-randomised by an encryption of zero under the
client's public part (a, b), and the selected numbers of c0, each with uniform noise of width w added.

**Numbers.** A number is a residue modulo q, X + D with D uniform on w values and independent of X. Its entropy is at
most log2 q, and at least log2 w given X, so it reveals at most log2(q / w) bits of X. This bound holds for every
client, with any ciphertexts and any keys.

**c1.** It is c1' + a u + e1 with a ternary u that the server draws. a is the expansion of a seed (the form of the
public part allows nothing else), so c1 is a ring-LWE sample over an a that nobody has chosen, and looks uniform.
But the client chooses b: an honest b is -(a s + e). A crafted b makes the numbers of c0 depend on u, since b u is added
to c0. They reveal no more bits of u than they have. So the protection of c1 is counted with as many of u's N
coefficients known as those bits can encode, log2(3) bits a coefficient; the remaining coefficients must still be a ring
with 128 bits of security for the modulus. `hidden` plans meet this condition. It is a heuristic of the same kind as the
security budget itself.
"""

import math

from he_infer.ckks.parameters import BUDGET
from he_infer.ckks.planning.plan import Plan

_TRIT = math.log2(3)
_COEFFICIENTS_PER_BIT = max(ring_size / bits for ring_size, bits in BUDGET.items())
"""Ring coefficients that 128 bits of security need for each bit of modulus, by the budget's strictest row."""


def bits_per_number(plan: Plan, *, with_noise: bool = True) -> float:
    """Bound the bits that one number of an answer reveals; without the server's noise, all bits that are sent."""
    if with_noise and plan.answer.noise:
        return plan.parameters.modulus_bits[0] - math.log2(plan.answer.noise)
    return float(min(plan.answer.bits, plan.parameters.modulus_bits[0]))


def numbers_per_answer(plan: Plan) -> list[int]:
    """Count the numbers of c0 that are sent, checks included, for each answer of a request."""
    return [len(plan.output.selection(target).first) for target in range(plan.targets)]


def bits_per_query(plan: Plan, *, with_noise: bool = True) -> float:
    """Bound the bits of the head that one request's answers reveal."""
    return sum(numbers_per_answer(plan)) * bits_per_number(plan, with_noise=with_noise)


def queries_to_tell(plan: Plan, weights: int, bits: float) -> int:
    """Return the least number of requests that can reveal `weights` weights to `bits` bits each."""
    return math.ceil(weights * bits / bits_per_query(plan))


def hidden_coefficients(plan: Plan) -> int:
    """Count the coefficients of u that stay unknown to a client with a crafted public part."""
    told = max(numbers_per_answer(plan)) * bits_per_number(plan)
    return max(0, plan.parameters.ring_size - math.ceil(told / _TRIT))


def needed_coefficients(plan: Plan) -> int:
    """Count the coefficients of u that must stay unknown: a ring of that size has 128 bits of security for the modulus.

    SEAL encrypts zeros modulo one prime more than the answer has, where there is one, and switches down.
    """
    bits = plan.parameters.modulus_bits
    modulus = bits[0] + (bits[1] if len(bits) > 1 else 0)
    return math.ceil(modulus * _COEFFICIENTS_PER_BIT)


def hides(plan: Plan) -> bool:
    """Tell whether `hidden` holds against every crafted public part."""
    return hidden_coefficients(plan) >= needed_coefficients(plan)
