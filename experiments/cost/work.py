"""The work of a plan for the native engine, counted from its kernels: transforms, multiplications, bytes read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from he_infer.ckks.planning.circuit import Circuit
    from he_infer.ckks.planning.plan import Plan

_WORD = 8
_PRODUCT = 4
"""Multiplications and fused multiply-adds of a product modulo a prime, see `kernels.modular`."""
_REDUCTION = 2
_HALVES = 2
"""Multiply-adds of a product in a matrix product, see `kernels.products`."""
_BOTH = 2
"""Polynomials of a ciphertext."""


@dataclass(frozen=True)
class Work:
    """Counts of one request."""

    transforms: int
    """Number-theoretic transforms modulo one prime, forward or inverse."""
    key_bytes: int
    """Bytes of evaluation keys that key switches read, eight a residue."""
    multiplications: int
    """Multiplications and fused multiply-adds of single residues; additions, roundings and seeds' hashes are not in."""
    moved_bytes: int
    """Bytes that must be read or written at least once: keys, encoded weights, request, answer."""


def count_work(plan: "Plan", circuit: "Circuit") -> Work:
    """Count a plan's work.

    A key switch of L primes takes L inverse transforms for its digits, L - 1 of each digit again for the other primes
    and one for the special prime, and for the division by that one 2 inverse and 2 L forward transforms, which are
    (L + 1)(L + 2). Rotations of one input share the first L and the L * L that follow; a sum of rotations is divided
    once. A key switch reads L digits of a key, each two polynomials modulo L + 1 primes. Rescaling L primes takes 2
    inverse and 2 (L - 1) forward transforms. A fresh zero takes one, and an answer two inverse ones.
    """
    from he_infer.ckks.planning.cost import count_primitives, estimate_cost

    n = plan.parameters.ring_size
    forward, inverse = count_forward(n), count_inverse(n)
    transforms = key_bytes = multiplications = 0
    for each in count_primitives(plan, circuit, native=True):
        primes, there, back, rest = each.level + 1, 0, 0, 0
        residues = _BOTH * primes * n
        match each.primitive:
            case "rotate" | "square" | "product":
                there, back = primes * primes + 2 * primes, primes + 2
                sums = primes * _PRODUCT + (1 + (primes - 1) // 4) * _REDUCTION
                rest = _BOTH * (primes + 1) * n * sums + residues * (_PRODUCT + _REDUCTION)
                if each.primitive != "rotate":
                    rest += primes * n * (4 * _PRODUCT + 3 * _REDUCTION)
                key_bytes += each.times * _BOTH * primes * (primes + 1) * n * _WORD
            case "rescale":
                there, back = _BOTH * (primes - 1), _BOTH
                rest = _BOTH * (primes - 1) * n * (_PRODUCT + _REDUCTION)
            case "refresh":
                there, rest = 1, _BOTH * n * (_PRODUCT + _REDUCTION)
            case "dump":
                back, rest = _BOTH, n
            case "load":
                rest = primes * n * (_REDUCTION + _PRODUCT + _REDUCTION)
            case "multiply":
                rest = residues * (_PRODUCT + _REDUCTION)
            case "matrix":
                rest = residues * _HALVES
            case "encode":
                there = primes
            case "add":
                rest = residues * _REDUCTION
        transforms += each.times * (there + back)
        multiplications += each.times * (there * forward + back * inverse + rest)
    for primes, shared, joined in _list_joined(plan, circuit):
        transforms -= shared * (primes * primes + primes) + joined * (2 * primes + 2)
        multiplications -= shared * primes * (primes * forward + inverse) + joined * 2 * (primes * forward + inverse)
    cost = estimate_cost(plan, circuit, native=True)
    moved = key_bytes + cost.weight_bytes + cost.bytes_up + cost.bytes_down
    return Work(transforms, key_bytes, multiplications, int(moved))


def _list_joined(plan: "Plan", circuit: "Circuit") -> "Iterator[tuple[int, int, int]]":
    """List what a compiled program joins, by stage: its primes, rotations of another one's digits, divisions saved."""
    from he_infer.ckks.planning.cost import count_primitives, keeps_weights

    if not keeps_weights(plan, count_primitives(plan, circuit)):
        return  # step by step, without a program
    level = plan.parameters.levels
    for stage in plan.stages:
        layout = stage.layout
        shared = layout.sources * max(0, len(layout.baby) - 1)
        yield level + 1, shared, layout.targets * max(0, len(layout.giant) - 1)
        level -= stage.levels


def count_forward(n: int) -> int:
    """Count the multiplications of a forward transform: the first pass, passes of two stages, the last three stages."""
    odd, passes = _count_passes(n)
    first = _PRODUCT / 2 + _REDUCTION if odd else _PRODUCT + _REDUCTION
    between = _PRODUCT + _REDUCTION / 4
    last = 12 * _PRODUCT / 8 + 9 * _REDUCTION / 8
    return round(n * (first + passes * between + last))


def count_inverse(n: int) -> int:
    """Count the multiplications of an inverse transform, the division by n included."""
    odd, passes = _count_passes(n)
    first = 12 * _PRODUCT / 8 + 4 * _REDUCTION / 8
    between = _PRODUCT + _REDUCTION / 2
    last = _PRODUCT + _REDUCTION if odd else 6 * _PRODUCT / 4 + _REDUCTION
    return round(n * (first + passes * between + last))


def _count_passes(n: int) -> tuple[bool, int]:
    """Tell whether the stages before the last three are odd in number, and count the passes that take two of them."""
    stages = n.bit_length() - 4
    return stages % 2 == 1, (stages - 1) // 2
