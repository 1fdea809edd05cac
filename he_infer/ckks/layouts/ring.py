"""Slots and coefficients of one ring: the canonical embedding, in numpy.

Slot s of a polynomial p in R[X]/(X^N + 1) is p(zeta^(3^s)), zeta = exp(i pi / N), as SEAL orders them; the other N/2
values are their conjugates. A product of polynomials is slotwise in the slots and a negacyclic convolution in the
coefficients, and this package uses both.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

GENERATOR = 3


@lru_cache(maxsize=16)
def _places(ring_size: int) -> NDArray[np.int64]:
    """(slots,) where slot s stands among the values at zeta^1, zeta^3, zeta^5, ..."""
    exponents = np.empty(ring_size // 2, dtype=np.int64)
    exponent = 1
    for slot in range(ring_size // 2):
        exponents[slot] = exponent
        exponent = exponent * GENERATOR % (2 * ring_size)
    places = (exponents - 1) // 2
    places.setflags(write=False)
    return places


@lru_cache(maxsize=16)
def _twist(ring_size: int) -> NDArray[np.complex128]:
    twist: NDArray[np.complex128] = np.exp(1j * np.pi * np.arange(ring_size) / ring_size)
    twist.setflags(write=False)
    return twist


def galois_element(steps: int, ring_size: int) -> int:
    """The Galois element 3^steps mod 2N of a rotation to the left by `steps` slots (SEAL's generator)."""
    return pow(GENERATOR, steps % (ring_size // 2), 2 * ring_size)


def conjugation(ring_size: int) -> int:
    """The Galois element 2N - 1 of the complex conjugation of all slots."""
    return 2 * ring_size - 1


def to_slots(coefficients: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Coefficients (..., N) to slots (..., N/2)."""
    size = coefficients.shape[-1]
    values = np.fft.ifft(coefficients * _twist(size), axis=-1) * size
    return np.asarray(values[..., _places(size)], dtype=np.complex128)


def to_coefficients(slots: NDArray[np.generic]) -> NDArray[np.float64]:
    """Slots (..., N/2) to coefficients (..., N)."""
    size = 2 * slots.shape[-1]
    places = _places(size)
    values = np.empty((*slots.shape[:-1], size), dtype=np.complex128)
    values[..., places] = slots
    values[..., size - 1 - places] = np.conj(slots)
    return np.asarray((np.fft.fft(values, axis=-1) / size * np.conj(_twist(size))).real)


def monomial(power: int, ring_size: int) -> NDArray[np.complex128]:
    """The slots of X^power: multiplying by it moves every coefficient up by `power`."""
    exponents = 2 * _places(ring_size) + 1
    return np.asarray(np.exp(1j * np.pi * ((power * exponents) % (2 * ring_size)) / ring_size))
