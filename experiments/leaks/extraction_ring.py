"""Recovery of a server's weights from a ciphertext's second polynomial, which `hidden` must prevent.

An answer that was only multiplied by weights w is (b w, a w), and the client that made the request knows a. In the
number-theoretic transform the product is pointwise, so one division gives w, exactly, from one answer. Masks in the
slots do not help: they are added to the first polynomial alone. Adding a fresh encryption of zero, as the policy
`hidden` does, makes the second polynomial look uniform.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def divide_in_ring(product: Sequence[int], factor: Sequence[int], prime: int) -> NDArray[np.float64]:
    """The polynomial w with product = w * factor in Z_prime[X]/(X^N + 1).

    Args:
        product: (N,) residues in SEAL's transform: entry i is the value at psi^(2 rev(i) + 1), where rev reverses
            log2 N bits and psi is the least primitive 2N-th root of unity.
        factor: (N,) likewise, without zeros.
        prime: the modulus.

    Returns:
        (N,) coefficients, centred around zero.
    """
    values = [left * pow(right, -1, prime) % prime for left, right in zip(product, factor, strict=True)]
    found = invert_transform(values, prime)
    return np.array([value - prime if value > prime // 2 else value for value in found], dtype=np.float64)


def invert_transform(values: Sequence[int], prime: int) -> list[int]:
    """Coefficients (N,) from values in SEAL's order; Cooley and Tukey's algorithm on Python's integers."""
    size = len(values)
    bits = size.bit_length() - 1
    psi = find_least_root(2 * size, prime)
    back = pow(psi, -1, prime)
    # The value at psi^(2k + 1) lies at the index whose bits are those of k reversed, the order that the algorithm
    # needs.
    work = list(values)
    for stage in range(bits):
        half = 1 << stage
        step = pow(back, size >> stage, prime)  # the inverse of a primitive 2^(stage + 1)-th root
        twiddle = [1] * half
        for index in range(1, half):
            twiddle[index] = twiddle[index - 1] * step % prime
        for start in range(0, size, 2 * half):
            for index in range(half):
                low, high = work[start + index], work[start + index + half] * twiddle[index] % prime
                work[start + index], work[start + index + half] = (low + high) % prime, (low - high) % prime
    scale = pow(size, -1, prime)
    for index in range(size):
        work[index] = work[index] * scale % prime
        scale = scale * back % prime
    return work


def find_least_root(order: int, prime: int) -> int:
    """The least primitive root of unity of an order that is a power of two."""
    base = next(
        root
        for root in (pow(candidate, (prime - 1) // order, prime) for candidate in range(2, 1000))
        if pow(root, order // 2, prime) == prime - 1
    )
    least, power, square = base, base, base * base % prime
    for _ in range(order // 2 - 1):
        power = power * square % prime
        least = min(least, power)
    return least
