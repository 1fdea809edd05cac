"""The inner cipher on a chunk, in an arena's memory; a chunk under 16 bytes is padded."""

import sys

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.engine import best
from cipher.algorithm.geometry import grid_of
from cipher.algorithm.inner import decipher, encipher
from cipher.algorithm.words import Words, to_words, word_type
from cipher.container.arena import Arena
from cipher.container.chunks import Chunk
from cipher.container.object_keys import ObjectKeys
from cipher.container.records import Buffer
from cipher.errors import Damaged


def encipher_chunk(plain: Buffer, chunk: Chunk, keys: ObjectKeys, salt: bytes, number: int, arena: Arena) -> memoryview:
    """The chunk, padded to 16 bytes and enciphered, in the arena's first buffer."""
    enciphered = arena.first(chunk.enciphered_bytes)
    if len(plain) < chunk.enciphered_bytes:
        image: NDArray[np.generic] = np.frombuffer(bytes(plain) + bytes(chunk.enciphered_bytes - len(plain)), np.uint8)
    else:
        image = np.frombuffer(plain, np.dtype(chunk.dtype)).reshape(chunk.shape)
    geometry = grid_of(image.shape, image.dtype.itemsize)
    vector = _words(enciphered, image.dtype)
    encipher(to_words(image), vector, geometry, keys.inner, keys.inner_salt(salt, number), best())
    return _in_byte_order(vector, image.dtype)


def decipher_chunk(
    enciphered: memoryview, chunk: Chunk, keys: ObjectKeys, salt: bytes, number: int, plain: memoryview
) -> memoryview:
    """The chunk's bytes, in `plain`, which has room for as many as are enciphered."""
    dtype, shape = np.dtype(chunk.dtype), chunk.shape
    if len(enciphered) > chunk.nbytes:
        dtype, shape = np.dtype(np.uint8), (len(enciphered),)
    geometry = grid_of(shape, dtype.itemsize)
    vector = _words(_in_byte_order(_words(enciphered, dtype), dtype), dtype)
    words = _words(plain, dtype)
    decipher(vector, words, geometry, keys.inner, keys.inner_salt(salt, number), best())
    found = _in_byte_order(words, dtype)
    if any(found[chunk.nbytes :]):
        raise Damaged("The padding of the sealed object was changed; restore it from a backup.")
    return found[: chunk.nbytes]


def _words(data: memoryview, dtype: np.dtype[np.generic]) -> Words:
    words: Words = np.frombuffer(data, word_type(dtype))
    return words


def _in_byte_order(words: Words, dtype: np.dtype[np.generic]) -> memoryview:
    """The bytes of words, low half first, as samples of `dtype`, or the other way round, in place."""
    if sys.byteorder == "big":
        words.byteswap(inplace=True)
    if dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big"):
        samples = words.view(np.uint8).reshape(-1, dtype.itemsize)
        samples[:] = samples[:, ::-1].copy()
    return words.view(np.uint8).data
