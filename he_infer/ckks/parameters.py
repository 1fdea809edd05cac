"""CKKS parameters: ring size and modulus chain, checked once against the security budget, then frozen."""

import hashlib
from dataclasses import dataclass

from he_infer.errors import ParameterError

# Largest log2 of the whole modulus, special prime included, at 128 bits with a ternary secret: the stricter of the
# homomorphic encryption standard (as SEAL enforces it) and the 2024 guidelines (Bossuat et al., ePrint 2024/463).
BUDGET = {2048: 53, 4096: 106, 8192: 214, 16384: 430, 32768: 868}
MIN_PRIME = 20
MAX_PRIME = 60


@dataclass(frozen=True)
class Parameters:
    """Ring size and modulus chain.

    Args:
        ring_size: N, a power of two; a ciphertext has N/2 slots and N coefficients.
        modulus_bits: bit sizes of the primes, first to last. If there are two or more, the last one is the special
            prime of key switching and carries no ciphertext. Ciphertexts of a single prime are never key-switched.

    Raises:
        ParameterError: the ring size has no budget, the modulus is above it, or SEAL has no primes of these sizes.
    """

    ring_size: int
    modulus_bits: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "modulus_bits", tuple(int(bits) for bits in self.modulus_bits))
        budget = BUDGET.get(self.ring_size)
        if budget is None:
            raise ParameterError(
                f"There is no security budget for N = {self.ring_size}; use one of {', '.join(map(str, BUDGET))}."
            )
        if not self.modulus_bits or not all(MIN_PRIME <= bits <= MAX_PRIME for bits in self.modulus_bits):
            raise ParameterError(f"A modulus chain needs at least one prime, each of {MIN_PRIME} to {MAX_PRIME} bits.")
        if self.total_bits > budget:
            raise ParameterError(
                f"A modulus of {self.total_bits} bits at N = {self.ring_size} has less than 128 bits of security; at "
                f"most {budget} are allowed. Use a shorter chain or a larger ring."
            )

    @property
    def total_bits(self) -> int:
        """log2 of the whole modulus, special prime included."""
        return sum(self.modulus_bits)

    @property
    def data_bits(self) -> tuple[int, ...]:
        """Bit sizes of the primes that carry a fresh ciphertext; level 0 keeps the first one."""
        return self.modulus_bits[:-1] if self.switches_keys else self.modulus_bits

    @property
    def switches_keys(self) -> bool:
        """Whether there is a special prime, so that rotations and relinearisations can be done."""
        return len(self.modulus_bits) > 1

    @property
    def slots(self) -> int:
        """Slots of a ciphertext."""
        return self.ring_size // 2

    @property
    def levels(self) -> int:
        """Number of times that a fresh ciphertext can be rescaled."""
        return len(self.data_bits) - 1

    @property
    def id(self) -> str:
        """Identifier: equal for equal parameters, different for different ones."""
        text = f"ckks/{self.ring_size}/{','.join(map(str, self.modulus_bits))}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        chain = ", ".join(map(str, self.modulus_bits))
        return f"N = {self.ring_size}, primes of [{chain}] bits, {self.total_bits} of {BUDGET[self.ring_size]} bits"
