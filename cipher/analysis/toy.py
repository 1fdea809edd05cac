"""The negative control: a chaotic cipher of the kind that is published often, and falls to four chosen images.

Its bytes look fine: flat histogram, no correlation, entropy near 8, NPCR above the customary bound, a key schedule with
full avalanche. Its flaws are those of many published designs: a logistic map in 16-bit arithmetic falls into a cycle
of a few hundred steps, so the key stream repeats; and mixing is linear, with a public matrix. Never use it.

Confusion: the image's bytes are permuted. Diffusion: each byte is xored with the key stream and chained twice around
the image, c[i] = b[i] xor x * c[i-1] in GF(2^8), the second time from where the first ended.
"""

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cipher.analysis.pixels import Image, flat, from_flat

_ORDER = 255  # of x in the multiplicative group: the polynomial is primitive
_POLYNOMIAL = 0x11D


class Toy:
    """The toy cipher, as a subject of the suite."""

    name = "toy (negative control)"

    def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
        """Permute, mask and chain the image's bytes."""
        plain = flat(image)
        order, stream = schedule(key, salt, plain.size)
        return from_flat(mix(plain[order] ^ stream), image)

    def decrypt(self, cipher_image: Image, key: bytes, salt: bytes) -> Image:
        """Undo the chaining, the mask and the permutation."""
        mixed = unmix(flat(cipher_image))
        order, stream = schedule(key, salt, mixed.size)
        plain = np.empty_like(mixed)
        plain[order] = mixed ^ stream
        return from_flat(plain, cipher_image)


def schedule(key: bytes, salt: bytes, count: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The permutation (count,) and the key stream (count,) of a key and salt.

    The whole key is hashed, so every bit of it matters; and yet only 16 bits of state come out of it.
    """
    digest = hashlib.sha256(key + salt).digest()
    states = _logistic(int.from_bytes(digest[:2], "big"), count)
    stream = ((states >> 4) & 0xFF).astype(np.uint8)
    # Rank the states after a public scattering of positions, so that ties of the short cycle do not keep their order.
    scatter = (np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    order = np.lexsort((scatter, states))
    return order, stream


def _logistic(start: int, count: int) -> NDArray[np.int64]:
    """`count` states of x <- 4 x (1 - x) in 16-bit fixed point; the fixed point 0 is left by a constant."""
    seen: dict[int, int] = {}
    states: list[int] = []
    state = start
    while state not in seen and len(states) < count:
        seen[state] = len(states)
        states.append(state)
        state = ((state * (0x10000 - state)) >> 14) & 0xFFFF or 0x5A5A
    if len(states) < count:
        entry = seen[state]
        cycle = states[entry:]
        states += cycle * ((count - len(states)) // len(cycle) + 1)
    return np.array(states[:count], dtype=np.int64)


def mix(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The public diffusion: two chained passes, linear over GF(2)."""
    first = _chain(data, 0)
    return _chain(first, int(first[-1]))


def unmix(mixed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The inverse of `mix`. It needs no key."""
    first = np.empty_like(mixed)
    first[1:] = mixed[1:] ^ _times(mixed[:-1], 1)
    # The first byte was chained to the last of the first pass, which is known once the others are.
    first[0] = mixed[0] ^ _times(first[-1:], 1)[0]
    data = first.copy()
    data[1:] = first[1:] ^ _times(first[:-1], 1)
    return data


def _chain(data: NDArray[np.uint8], start: int) -> NDArray[np.uint8]:
    """c[i] = data[i] xor x c[i-1], c[-1] = start, in closed form: x^i times the running xor of x^-j data[j]."""
    powers = np.arange(data.size) % _ORDER
    terms = _times(data, (-powers) % _ORDER)
    terms[0] ^= _times(np.array([start], dtype=np.uint8), 1)[0]
    return _times(np.bitwise_xor.accumulate(terms), powers)


def _times(values: NDArray[np.uint8], power: NDArray[np.int64] | int) -> NDArray[np.uint8]:
    """Multiply bytes by x^power in GF(2^8)."""
    product: NDArray[np.uint8] = _table()[power, values]
    return product


@cache
def _table() -> NDArray[np.uint8]:
    """x^power * value for every power 0 .. 254 and value, (255, 256)."""
    row = np.arange(256)
    rows = []
    for _ in range(_ORDER):
        rows.append(row.astype(np.uint8))
        row = (row << 1) ^ np.where(row & 0x80, _POLYNOMIAL, 0)
    return np.array(rows)
