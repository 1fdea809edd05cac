"""An image cipher of the usual chaotic design, as a peer for speed alone: weak, never to be used.

The design that most papers on chaotic image encryption share: a logistic map in floating point, iterated once a byte;
its values sorted give a permutation of all bytes; its digits give a key stream; each byte is chained to the one before,
forwards and then backwards. Compiled with numba where that is installed, so that the comparison is of designs.
"""

import functools
import hashlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encrypt(image: NDArray[np.generic], key: bytes) -> NDArray[np.uint8]:
    """Permute, mask and chain the image's bytes: as many bytes, flat."""
    data = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
    order, stream = _schedule(key, data.size)
    forwards = np.bitwise_xor.accumulate(data[order] ^ stream)
    return np.bitwise_xor.accumulate(forwards[::-1] ^ stream)


def decrypt(cipher_bytes: NDArray[np.uint8], key: bytes) -> NDArray[np.uint8]:
    """The image's bytes, flat."""
    order, stream = _schedule(key, cipher_bytes.size)
    forwards = (_unchain(cipher_bytes) ^ stream)[::-1]
    data = np.empty_like(cipher_bytes)
    data[order] = _unchain(forwards) ^ stream
    return data


def _unchain(chained: NDArray[np.uint8]) -> NDArray[np.uint8]:
    out = chained.copy()
    out[1:] ^= chained[:-1]
    return out


def _schedule(key: bytes, count: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    digest = hashlib.sha256(key).digest()
    start = (int.from_bytes(digest[:6], "little") + 1) / (2**48 + 2)
    values = np.empty(count)
    _iterate()(start, 3.9999, values)
    return np.argsort(values), (values * 2.0**40).astype(np.int64).astype(np.uint8)


@functools.cache
def _iterate() -> Callable[[float, float, NDArray[np.float64]], None]:
    def iterate(x: float, r: float, values: NDArray[np.float64]) -> None:
        for index in range(values.size):
            x = r * x * (1.0 - x)
            values[index] = x

    if importlib.util.find_spec("numba") is None:
        return iterate
    import numba  # an extra, and slow to load

    compiled: Any = numba.njit(iterate)
    result: Callable[[float, float, NDArray[np.float64]], None] = compiled
    return result
