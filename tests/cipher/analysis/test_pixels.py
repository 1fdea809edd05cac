"""Images are seen as unsigned words, bytes and planes, whatever their type and layout."""

import numpy as np
import pytest

from cipher.analysis.pixels import flat, from_flat, highest, octets, planes, words
from cipher.errors import UnsupportedImage


def test_signed_pixels_become_unsigned_words() -> None:
    image = np.full((32, 32), -1, dtype=np.int16)
    assert words(image).dtype == np.uint16
    assert int(words(image)[0, 0]) == 0xFFFF


def test_big_endian_pixels_keep_their_values() -> None:
    image = np.full((32, 32), 0x1234, dtype=">u2")
    assert int(words(image)[0, 0]) == 0x1234
    assert int(octets(image)["high byte"][0, 0]) == 0x12


@pytest.mark.parametrize(("dtype", "names"), [("u1", 1), ("i2", 2), ("u4", 4)])
def test_octets_are_named_from_low_to_high(dtype: str, names: int) -> None:
    image = np.zeros((32, 32), dtype=dtype)
    assert len(octets(image)) == names
    assert highest(image) == 2 ** (8 * names) - 1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((40, 50), (1, 40, 50)), ((40, 50, 3), (3, 40, 50)), ((5, 40, 50), (5, 40, 50)), ((5, 40, 50, 3), (15, 40, 50))],
)
def test_planes_have_spatial_neighbours(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    image = np.arange(int(np.prod(shape)), dtype=np.uint32).reshape(shape)
    layers = planes(image)
    assert layers.shape == expected
    colours = 3 if shape[-1] == 3 else 1
    assert int(layers[0, 0, 1] - layers[0, 0, 0]) == colours


def test_restored_bytes_give_the_same_image() -> None:
    image = np.random.default_rng(1).integers(-500, 500, (3, 20, 21), dtype=np.int16)
    assert np.array_equal(from_flat(flat(image), image), image)


@pytest.mark.parametrize(
    "image", [np.zeros((32, 32)), np.zeros((32, 32), dtype=np.int64), np.zeros((8, 8), dtype=np.uint8)]
)
def test_unsupported_pixels_are_refused(image: np.ndarray) -> None:
    with pytest.raises(UnsupportedImage):
        words(image)
