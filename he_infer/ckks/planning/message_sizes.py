"""The exact lengths of a request's and an answer's parts, which depend only on the plan.

`fresh_ciphertext` and `answer` define the content of those bytes.
"""

from he_infer.ckks.planes import count_plane_bytes
from he_infer.ckks.planning.plan import Plan

MAGIC_BYTES = 4
SEED_BYTES = 64


def count_fresh_bytes(ring_size: int, modulus_bits: tuple[int, ...]) -> int:
    """Count the exact bytes of a request's ciphertext modulo primes of these bits."""
    return MAGIC_BYTES + sum(count_plane_bytes(ring_size, bits) for bits in modulus_bits) + SEED_BYTES


def count_part_bytes(plan: Plan, target: int) -> int:
    """Count the exact bytes of an answer's part."""
    bits = plan.answer.bits
    numbers = len(plan.output.selection(target).first)
    return (
        MAGIC_BYTES + count_plane_bytes(plan.parameters.ring_size, bits) + count_plane_bytes(pad_count(numbers), bits)
    )


def pad_count(count: int) -> int:
    """Round up to a multiple of eight, the number of numbers that are packed."""
    return -(-count // 8) * 8
