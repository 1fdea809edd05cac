"""Small random polynomials from uniform bytes, without bias.

The secret of a fresh encryption is ternary, its errors are centred binomial of 2 x 21 bits as SEAL draws them (standard
deviation 3.24).
"""

import secrets
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import inlined
from he_infer.ckks.engines.native.kernels.ring import Doubles

_TRITS = 5
_TERNARY_BOUND = 3**_TRITS
"""A byte below 243 is five uniform trits; others are drawn again."""
_ERROR_BYTES = 6
_HALF_BITS = 0x1FFFFF

Bytes = NDArray[np.uint8]


def random_bytes(count: int) -> Bytes:
    """Draw (count,) bytes: AES-256-CTR under a fresh key from the operating system's generator."""
    seed = secrets.token_bytes(48)
    stream = Cipher(algorithms.AES(seed[:32]), modes.CTR(seed[32:])).encryptor()
    return np.frombuffer(stream.update(bytes(count)), dtype=np.uint8)


def fill_ternary(raw: Bytes, out: Doubles, to: int, count: int) -> int:
    """Write uniform -1, 0, 1 to out[to : to + count] by rejection sampling; returns how many the bytes gave."""
    made = 0
    for value in raw:
        if value < _TERNARY_BOUND:
            left = int(value)
            for _ in range(_TRITS):
                if made == count:
                    return made
                out[to + made] = float(left % 3 - 1)
                left //= 3
                made += 1
    return made


@inlined
def count_ones(number: int) -> int:
    """Count the ones among the lowest 21 bits."""
    number &= _HALF_BITS
    number -= (number >> 1) & 0x155555
    number = (number & 0x333333) + ((number >> 2) & 0x333333)
    number = (number + (number >> 4)) & 0x0F0F0F
    return (number + (number >> 8) + (number >> 16)) & 0xFF


def fill_errors(raw: Bytes, out: Doubles, to: int, count: int) -> None:
    """Write centred binomial errors to out[to : to + count], from six bytes each."""
    for index in range(count):
        b = _ERROR_BYTES * index
        ones = count_ones(int(raw[b]) | int(raw[b + 1]) << 8 | int(raw[b + 2]) << 16)
        others = count_ones(int(raw[b + 3]) | int(raw[b + 4]) << 8 | int(raw[b + 5]) << 16)
        out[to + index] = float(ones - others)


def draw_zeros(
    count: int,
    size: int,
    ternary: Callable[[Bytes, Doubles, int, int], int] = fill_ternary,
    errors: Callable[[Bytes, Doubles, int, int], None] = fill_errors,
    draw: Callable[[int], Bytes] = random_bytes,
) -> NDArray[np.float64]:
    """Draw (count, 3 size) the u, e0, e1 of public-key encryptions of zero. The functions may be the compiled ones."""
    samples = np.empty((count, 3 * size))
    errors_at = max(64, size * 2 // 9)
    raw = draw(count * (errors_at + 2 * _ERROR_BYTES * size)).reshape(count, -1)
    for sample, own in zip(samples, raw, strict=True):
        made = ternary(own[:errors_at], sample, 0, size)
        while made < size:  # a byte in twenty is rejected, and a tenth more than needed was drawn
            made += ternary(draw(max(64, (size - made) * 2 // 9)), sample, made, size - made)
        errors(own[errors_at:], sample, size, 2 * size)
    return samples
