"""Version 1 of the inner cipher: broken, kept as a negative control.

At fixed key and salt its sweeps let the sign plane through and give their constants to seven chosen images
(`cipher.analysis.version1_attacks`), and a few thousand give an equivalent key (`cipher.analysis.equivalent_key`). No
command seals or opens with version 1.
"""

import numpy as np
from numpy.typing import NDArray

from cipher.algorithm.words import Words, from_words, to_words
from cipher.analysis.version1.confusion import scramble, unscramble
from cipher.analysis.version1.diffusion import alter, restore
from cipher.analysis.version1.engine import VectorisedEngine
from cipher.analysis.version1.features import BASE_LAYERS, Features
from cipher.analysis.version1.geometry import Geometry, grid_of
from cipher.analysis.version1.key_schedule import Stage, update_key
from cipher.analysis.version1.keystream import KeyStream
from cipher.analysis.version1.network import create_network
from cipher.analysis.version1.remainder import RemainderKeys, absorb, release, unabsorb, unrelease


def encrypt_image(image: NDArray[np.generic], key: bytes, salt: bytes) -> NDArray[np.generic]:
    """Encipher an image; deterministic. Key of 32 bytes, salt of 16."""
    geometry = grid_of(image.shape, image.dtype.itemsize)
    words = encipher(to_words(image), geometry, key, salt, VectorisedEngine())
    return from_words(words, image.shape, image.dtype)


def decrypt_image(cipher_image: NDArray[np.generic], key: bytes, salt: bytes) -> NDArray[np.generic]:
    """Decipher what `encrypt_image` made."""
    geometry = grid_of(cipher_image.shape, cipher_image.dtype.itemsize)
    words = decipher(to_words(cipher_image), geometry, key, salt, VectorisedEngine())
    return from_words(words, cipher_image.shape, cipher_image.dtype)


def encipher(words: Words, geometry: Geometry, key: bytes, salt: bytes, engine: VectorisedEngine) -> Words:
    """Algorithm 1 on words; `words` is overwritten. Steps 1, 1.1 and 6 are the caller's (read, preprocess, save)."""
    streams = _Streams(key, salt, geometry, engine)
    block, rest = words[: geometry.block], words[geometry.block :]
    if geometry.remainder:
        rest_keys = RemainderKeys.draw(streams.begin(Stage.REMAINDER), geometry.remainder, geometry.bits)
        absorb(block, rest, rest_keys)

    # 1.2 extract features, 3 update hidden layers.
    layers = Features.extract(engine.histogram(block)).hidden_layers()

    # 4 confusion: 4.3 the key's update, 1.3 and 1.4 its network, 4.1 partitions, 4.2 scrambling; 5.1 a vector.
    vector = scramble(block, geometry, streams.begin(Stage.CONFUSION, layers), engine)

    # 5 diffusion. 5.3 update the key for each direction; 5.2 alter horizontally, then vertically.
    by_column = vector.reshape(geometry.columns, geometry.rows)
    alter(by_column, streams.begin(Stage.HORIZONTAL), engine, full_first=True)
    by_row = engine.transpose(by_column)
    alter(by_row, streams.begin(Stage.VERTICAL), engine, full_first=False)

    altered = by_row.reshape(-1)
    if geometry.remainder:
        altered = np.concatenate([altered, release(altered, rest, rest_keys)])
    return altered


def decipher(words: Words, geometry: Geometry, key: bytes, salt: bytes, engine: VectorisedEngine) -> Words:
    """The inverse of `encipher`, its steps in the opposite order; `words` is overwritten."""
    streams = _Streams(key, salt, geometry, engine)
    block, rest = words[: geometry.block], words[geometry.block :]
    if geometry.remainder:
        rest_keys = RemainderKeys.draw(streams.begin(Stage.REMAINDER), geometry.remainder, geometry.bits)
        rest = unrelease(block, rest, rest_keys)

    by_row = block.reshape(geometry.rows, geometry.columns)
    restore(by_row, streams.begin(Stage.VERTICAL), engine, full_first=False)
    by_column = engine.transpose(by_row)
    restore(by_column, streams.begin(Stage.HORIZONTAL), engine, full_first=True)

    vector = by_column.reshape(-1)
    layers = Features.extract(engine.histogram(vector)).hidden_layers()
    plain = unscramble(vector, geometry, streams.begin(Stage.CONFUSION, layers), engine)

    if geometry.remainder:
        unabsorb(plain, rest, rest_keys)
        plain = np.concatenate([plain, rest])
    return plain


class _Streams:
    """Starts the key stream of any stage of one image."""

    def __init__(self, key: bytes, salt: bytes, geometry: Geometry, engine: VectorisedEngine) -> None:
        self._key = key
        self._salt = salt
        self._geometry = geometry
        self._engine = engine

    def begin(self, stage: Stage, layers: int = BASE_LAYERS) -> KeyStream:
        """The stage's subkey, its network with the given number of layers, and the stream from its beginning."""
        subkey = update_key(self._key, self._salt, stage, self._geometry)
        return KeyStream(create_network(subkey, layers), self._engine)
