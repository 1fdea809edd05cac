"""Relatives of the attacks on version 1, on the shapes where a block cipher's edges show: lines, primes, tiny images.

At one key and salt. Counts of equal words are held against the binomial distribution of an ideal cipher, all images of
a test together, so that a chance result is one of a million.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from cipher.algorithm.engine import by_name
from cipher.algorithm.inner import decrypt_image, encrypt_image

KEY, SALT = bytes(range(32)), bytes(16)
SHAPES = [(16, 1), (1, 17), (1, 31), (33, 1), (1, 1009), (1009, 1), (37, 41), (31, 33), (2, 16), (61, 67)]
TYPES = ["|u1", "<u2", "<i2"]
LEAST_P = 1e-6

Image = NDArray[np.generic]
Map = Callable[[Image], Image]


def encipher(image: Image) -> Image:
    return encrypt_image(image, KEY, SALT, engine=by_name("numpy"))


def decipher(image: Image) -> Image:
    return decrypt_image(image, KEY, SALT, engine=by_name("numpy"))


def bits_of(image: Image) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image).view(np.uint8).reshape(-1)


def assert_chance(equal: int, of: int) -> None:
    """As many equal bytes as two unrelated images have."""
    low, high = binom.ppf([LEAST_P / 2, 1 - LEAST_P / 2], of, 1 / 256)
    assert low <= equal <= high, f"{equal} of {of} bytes are foretold, chance would be {of / 256:.0f}"


@pytest.mark.parametrize("run", [encipher, decipher], ids=["chosen images", "chosen cipher images"])
@pytest.mark.parametrize("dtype", TYPES)
def test_flipped_planes_do_not_pass_through_images_of_extreme_shapes(dtype: str, run: Map) -> None:
    rng, equal, of = np.random.default_rng(1), 0, 0
    for shape in SHAPES:
        image = np.frombuffer(rng.bytes(int(np.prod(shape)) * int(dtype[2])), dtype).reshape(shape)
        before = bits_of(run(image))
        for plane in range(8 * image.itemsize):
            flipped = (image.view(f"u{image.itemsize}") ^ (1 << plane)).view(dtype)
            change = bits_of(image) ^ bits_of(flipped)
            equal += int((bits_of(run(flipped)) == before ^ change).sum())
            of += before.size
    assert_chance(equal, of)


@pytest.mark.parametrize("run", [encipher, decipher], ids=["chosen images", "chosen cipher images"])
@pytest.mark.parametrize("place", ["head", "end of the head", "body", "end"])
def test_one_bit_anywhere_leaves_no_byte_of_the_other_side_more_often_than_chance(place: str, run: Map) -> None:
    rng, equal, of = np.random.default_rng(2), 0, 0
    for count in (17, 31, 32, 33, 97, 1009, 2503):
        for _ in range(6):
            image = rng.integers(0, 256, count).astype(np.uint8)
            at = {"head": 0, "end of the head": 15, "body": 16, "end": count - 1}[place]
            changed = image.copy()
            changed[at] ^= 1 << rng.integers(8)
            equal += int((run(image) == run(changed)).sum())
            of += count
    assert_chance(equal, of)


@pytest.mark.parametrize("run", [encipher, decipher], ids=["chosen images", "chosen cipher images"])
def test_differences_of_differences_are_not_zero(run: Map) -> None:
    """E(a) + E(b) + E(a + b) + E(0), bitwise: 0 for a cipher that is linear on a plane, a line or a tile."""
    rng, equal, of = np.random.default_rng(3), 0, 0
    for rows, columns in [(64, 64), (37, 41), (1, 1009), (128, 33)]:
        zero, one, other = (np.zeros((rows, columns), np.uint16) for _ in range(3))
        one[:, columns // 2] = 1 << 15
        other[rows // 2] = rng.integers(1 << 16)
        parts = [bits_of(run(image)) for image in (zero, one, other, one ^ other)]
        total = parts[0] ^ parts[1] ^ parts[2] ^ parts[3]
        equal += int((total == 0).sum())
        of += total.nbytes
    assert_chance(equal, of)


def test_equal_tiles_lines_and_images_repeat_only_as_whole_images() -> None:
    flat = np.zeros((96, 96), np.uint8)
    blocks = {encipher(flat).tobytes()[at : at + 16] for at in range(0, flat.size, 16)}
    assert len(blocks) == flat.size // 16, "equal tiles give no equal blocks"
    assert encipher(flat).tobytes() == encipher(flat.copy()).tobytes(), (
        "deterministic at one key and salt, as documented"
    )
    others = [encipher(flat.reshape(shape)).tobytes() for shape in [(48, 192), (192, 48), (288, 32)]]
    assert len({*others, encipher(flat).tobytes()}) == 4, "the grid's shape is part of the tweak"
