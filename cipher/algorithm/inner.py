"""Algorithm 1: the confusion/diffusion cipher, whole. The steps stand in `encipher`, by their numbers.

This is the *inner* cipher: unauthenticated, and never to be used alone. Files go through `cipher.container.api`.
"""

import sys

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.confusion import scramble, unscramble
from cipher.algorithm.diffusion import DiffusionKeys, alter, restore
from cipher.algorithm.engine import Engine, best
from cipher.algorithm.geometry import Geometry, grid_of
from cipher.algorithm.key_schedule import extract_key
from cipher.algorithm.words import Words, check_type, from_words, to_words, word_type

VERSION = 2
"""Version of the cipher. A sealed object names the version that enciphered it."""


def encrypt_image(
    image: NDArray[np.generic], key: bytes, salt: bytes, *, engine: Engine | None = None
) -> NDArray[np.generic]:
    """Encipher an image; deterministic.

    Args:
        image: (n,), (H, W), (H, W, C), (F, H, W) or (F, H, W, C); integers, booleans or floats of 1, 2, 4 or 8 bytes,
            at least 16 bytes in all.
        key: 32 bytes.
        salt: 16 bytes; two images under one key need two salts.
        engine: the loops; the fastest installed if not given. The result does not depend on it.

    Returns:
        An array of the same shape and type. (A boolean image gives type uint8, as a boolean cannot hold the bytes.)

    Raises:
        UnsupportedImage: another type or shape.
        BadKey: a key or salt of another length.
    """
    check_type(image.dtype)
    geometry = grid_of(image.shape, image.dtype.itemsize)
    vector = np.empty(geometry.words, word_type(image.dtype))
    encipher(to_words(image), vector, geometry, key, salt, engine or best())
    return from_words(vector, image.shape, _cipher_type(image.dtype))


def decrypt_image(
    cipher_image: NDArray[np.generic], key: bytes, salt: bytes, *, engine: Engine | None = None
) -> NDArray[np.generic]:
    """Decipher a cipher image (a boolean one comes back as bytes 0 and 1). Only the container verifies.

    Raises:
        UnsupportedImage: a type or shape that `encrypt_image` does not make.
        BadKey: a key or salt of another length.
    """
    check_type(cipher_image.dtype)
    geometry = grid_of(cipher_image.shape, cipher_image.dtype.itemsize)
    words = np.empty(geometry.words, word_type(cipher_image.dtype))
    decipher(to_words(cipher_image).copy(), words, geometry, key, salt, engine or best())
    return from_words(words, cipher_image.shape, _cipher_type(cipher_image.dtype))


def encipher(words: Words, vector: Words, geometry: Geometry, key: bytes, salt: bytes, engine: Engine) -> None:
    """Algorithm 1 on words. Steps 1 and 6 are the caller's (read, save).

    Args:
        words: the image's words, (geometry.words,); not changed.
        vector: receives the cipher image; of the same size.
        geometry: shape of the image's grid.
        key: 32 bytes.
        salt: 16 bytes.
        engine: the loops.
    """
    block, image_key = geometry.block, extract_key(key, salt)
    # 1.1 to 1.4 and 3 features, networks, their analysis and update; 4 confusion; 5.1 a vector.
    scramble(words[:block], vector[:block], geometry, image_key, engine)
    vector[block:] = words[block:]
    # 5 diffusion: 5.3 update the key, 5.2 alter horizontally and vertically.
    alter(_little_endian(vector), DiffusionKeys.derive(image_key, geometry), engine)
    _little_endian(vector)


def decipher(vector: Words, words: Words, geometry: Geometry, key: bytes, salt: bytes, engine: Engine) -> None:
    """The inverse of `encipher`, its steps in the opposite order; `vector` is overwritten."""
    block, image_key = geometry.block, extract_key(key, salt)
    restore(_little_endian(vector), DiffusionKeys.derive(image_key, geometry), engine)
    _little_endian(vector)
    words[block:] = vector[block:]
    unscramble(vector[:block], words[:block], geometry, image_key, engine)


def _little_endian(vector: Words) -> memoryview:
    """The bytes of a vector, little-endian words; on other machines it is swapped in place, and back the next time."""
    if sys.byteorder == "big":
        vector.byteswap(inplace=True)
    return vector.view(np.uint8).data


def _cipher_type(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype
