"""Bounds of what an answer tells of a head, and of what a crafted public part tells of the answer's protection.

Under `hidden` two things leave the server for each answer: c1, re-randomised by an encryption of zero under the
client's public part (a, b), and the selected numbers of c0, each with uniform noise of width w added.

**Numbers.** A number is a residue modulo q, X + D with D uniform on w values and independent of X. Whatever X is, and
whatever the client sent, its entropy is at most log2 q and at least log2 w given X, so it tells at most log2(q / w)
bits. This is a bound for every client, with any ciphertexts and any keys.

**c1.** It is c1' + a u + e1 with a ternary u that the server draws. a is the expansion of a seed (the form of the
public part leaves no other choice), so c1 is a ring-LWE sample over an a that nobody has chosen, and looks uniform.
But b is the client's: an honest one is -(a s + e), a crafted one makes the numbers of c0 tell of u, as b u is added.
They tell no more bits than they have. So the protection of c1 is counted with as many of u's N coefficients known as
those bits can name, log2(3) bits a coefficient, and the rest must still be a ring of 128 bits for the modulus.
`hidden` plans are made with that in hand; it is a heuristic of the same kind as the security budget itself.
"""

import math

from he_infer.ckks.parameters import BUDGET
from he_infer.ckks.planning.plan import Plan

_TRIT = math.log2(3)
_COEFFICIENTS_PER_BIT = max(ring_size / bits for ring_size, bits in BUDGET.items())
"""Ring coefficients that 128 bits of security take for each bit of modulus, by the budget's strictest row."""


def bits_per_number(plan: Plan, *, with_noise: bool = True) -> float:
    """Bits that one number of an answer can tell: with the server's noise, or without it all that are sent."""
    if with_noise and plan.answer.noise:
        return plan.parameters.modulus_bits[0] - math.log2(plan.answer.noise)
    return float(min(plan.answer.bits, plan.parameters.modulus_bits[0]))


def numbers_per_answer(plan: Plan) -> list[int]:
    """Numbers of c0 that leave, checks included, for each answer of a request."""
    return [len(plan.output.selection(target).first) for target in range(plan.targets)]


def bits_per_query(plan: Plan, *, with_noise: bool = True) -> float:
    """Bits that one request's answers can tell of the head."""
    return sum(numbers_per_answer(plan)) * bits_per_number(plan, with_noise=with_noise)


def queries_to_tell(plan: Plan, weights: int, bits: float) -> int:
    """The least number of requests that can tell so many weights to so many bits each."""
    return math.ceil(weights * bits / bits_per_query(plan))


def hidden_coefficients(plan: Plan) -> int:
    """Coefficients of u that stay unknown to a client with a public part of its own making."""
    told = max(numbers_per_answer(plan)) * bits_per_number(plan)
    return max(0, plan.parameters.ring_size - math.ceil(told / _TRIT))


def needed_coefficients(plan: Plan) -> int:
    """Coefficients of u that must stay unknown: a ring of that size has 128 bits of security for the modulus.

    SEAL encrypts zeros modulo one prime more than the answer has, where there is one, and switches down.
    """
    bits = plan.parameters.modulus_bits
    modulus = bits[0] + (bits[1] if len(bits) > 1 else 0)
    return math.ceil(modulus * _COEFFICIENTS_PER_BIT)


def hides(plan: Plan) -> bool:
    """Whether `hidden` holds against public parts of any making."""
    return hidden_coefficients(plan) >= needed_coefficients(plan)
