"""Small random polynomials and numbers from uniform bytes, without bias.

The secret of a fresh encryption is ternary, its errors are centred binomial of 2 x 21 bits as SEAL draws them (standard
deviation 3.24). Both, and the noise of an answer, come from AES-256-CTR under a key from the operating system.
"""

import secrets

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from he_infer.ckks.engines.native.kernels.compiling import Lanes, helper, inlined
from he_infer.ckks.engines.native.kernels.lanes import load_64, short_to_doubles, splat_word, store
from he_infer.ckks.engines.native.kernels.ring import Doubles

_TRITS = 5
_TERNARY_BOUND = 3**_TRITS
"""A byte below 243 is five uniform trits; others are passed over."""
_ERROR_BYTES = 6
_HALF_BITS = 21
_HALF = np.uint64((1 << _HALF_BITS) - 1)
_LOWEST = np.uint64(0xFF)
_PAIRS, _FOURS, _EIGHTS = (np.uint64(each * 0x0101010101010101) for each in (0x55, 0x33, 0x0F))

Bytes = NDArray[np.uint8]


def random_bytes(count: int) -> Bytes:
    """Draw (count,) bytes: AES-256-CTR under a fresh key from the operating system's generator."""
    seed = secrets.token_bytes(48)
    stream = Cipher(algorithms.AES(seed[:32]), modes.CTR(seed[32:])).encryptor()
    return np.frombuffer(stream.update(bytes(count)), dtype=np.uint8)


def count_zero_bytes(n: int) -> int:
    """Count the bytes that one fresh encryption of zero takes: a ninth more than needed, a twentieth is passed over."""
    return n * 2 // 9 + 2 * _ERROR_BYTES * n


@helper
def fill_ternary(raw: Bytes, at: int, length: int, out: Doubles, to: int, count: int) -> bool:
    """Write `count` uniform -1, 0, 1 by rejection sampling; false if the bytes do not suffice."""
    made = 0
    for k in range(at, at + length):
        left = np.uint32(raw[k])
        if left < _TERNARY_BOUND:
            for _ in range(min(_TRITS, count - made)):
                out[to + made] = np.float64(left % np.uint32(3)) - 1.0
                left //= np.uint32(3)
                made += 1
    return made == count


@inlined
def _differences(first: Lanes, second: Lanes) -> Lanes:
    """Ones among the lowest 21 bits of the first words, less those of the second."""
    half, width = splat_word(_HALF), splat_word(np.uint64(32))
    x = (first & half) | (second & half) << width
    x = x - (x >> splat_word(np.uint64(1)) & splat_word(_PAIRS))
    x = (x & splat_word(_FOURS)) + (x >> splat_word(np.uint64(2)) & splat_word(_FOURS))
    x = (x + (x >> splat_word(np.uint64(4)))) & splat_word(_EIGHTS)
    x = x + (x >> splat_word(np.uint64(8))) + (x >> splat_word(np.uint64(16)))
    lowest = splat_word(_LOWEST)
    return short_to_doubles(x & lowest) - short_to_doubles(x >> width & lowest)


@helper
def fill_errors(raw: Bytes, at: int, out: Doubles, to: int, count: int) -> None:
    """Write centred binomial errors, a multiple of 32, from six bytes each.

    Each three words a, b, c give four errors: the lowest 42 bits of each, and bits 42 to 62 of a and of b.
    """
    shift = splat_word(np.uint64(_HALF_BITS))
    for k in range(0, count, 32):
        byte = at + _ERROR_BYTES * k
        a, b, c = load_64(raw, byte), load_64(raw, byte + 64), load_64(raw, byte + 128)
        store(out, to + k, _differences(a, a >> shift))
        store(out, to + k + 8, _differences(b, b >> shift))
        store(out, to + k + 16, _differences(c, c >> shift))
        store(out, to + k + 24, _differences(a >> shift >> shift, b >> shift >> shift))


def fill_zeros(raw: Bytes, count: int, n: int, out: Doubles) -> bool:
    """Write (count, 3 n) the u, e0, e1 of fresh encryptions of zero; false if too many bytes were passed over.

    Whether bytes suffice does not depend on the numbers that they give, so drawing all again adds no bias.
    """
    ternary = n * 2 // 9
    each = ternary + 2 * _ERROR_BYTES * n  # as `count_zero_bytes` says
    enough = True
    for index in range(count):
        at, to = index * each, 3 * n * index
        if not fill_ternary(raw, at, ternary, out, to, n):
            enough = False
        fill_errors(raw, at + ternary, out, to + n, 2 * n)
    return enough
