"""Algorithm 1 as a whole: every image is restored; it is deterministic; every word depends on all."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import cipher
from cipher.algorithm.engine import Engine, by_name
from cipher.algorithm.inner import decrypt_image, encrypt_image
from cipher.errors import BadKey, UnsupportedImage
from tests.cipher.recipes import engines

KEY = bytes(range(32))
SALT = bytes(range(16))
FOLDER = Path(cipher.__file__).parent / "algorithm"
TYPES = ["|u1", "|i1", "|b1", "<u2", ">u2", "<i2", ">i2", "<u4", ">i4", "<u8", ">i8", "<f2", ">f4", "<f8"]

sides = st.integers(4, 70)
shapes = st.one_of(
    st.tuples(st.integers(16, 3000)),
    st.tuples(sides, sides),
    st.tuples(st.just(1), st.integers(16, 3000)),
    st.tuples(st.integers(16, 3000), st.just(1)),
    st.tuples(sides, sides, st.integers(1, 4)),
    st.tuples(st.integers(1, 5), st.integers(4, 40), st.integers(4, 40)),
    st.tuples(st.integers(1, 3), st.integers(4, 40), st.integers(4, 40), st.integers(1, 4)),
)


def an_image(shape: tuple[int, ...], dtype: str, seed: int, levels: int = 256) -> NDArray[np.generic]:
    kind = np.dtype(dtype)
    size = math.prod(shape)
    raw = np.random.default_rng(seed).integers(0, levels, size * kind.itemsize, dtype=np.uint8)
    return (raw & 1).astype(bool).reshape(shape) if dtype == "|b1" else raw.view(kind).reshape(shape)


@settings(deadline=None, max_examples=60)
@given(shapes, st.sampled_from(TYPES), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 16, 256]))
def test_every_image_is_restored_and_both_engines_agree(
    shape: tuple[int, ...], dtype: str, seed: int, levels: int
) -> None:
    image = an_image(shape, dtype, seed, levels)
    made = [encrypt_image(image, KEY, SALT, engine=engine) for engine in engines()]
    for engine, enciphered in zip(engines(), made, strict=True):
        assert enciphered.shape == image.shape
        assert enciphered.dtype == (np.uint8 if dtype == "|b1" else image.dtype)
        assert enciphered.tobytes() == made[0].tobytes()
        assert decrypt_image(enciphered, KEY, SALT, engine=engine).tobytes() == image.tobytes()


def test_strided_and_read_only_images_are_taken_and_left_alone() -> None:
    base = an_image((80, 90), "<u2", 1)
    base.flags.writeable = False
    view = base[::-2, 1::3]
    before = view.copy()
    enciphered = encrypt_image(view, KEY, SALT)
    np.testing.assert_array_equal(view, before)
    np.testing.assert_array_equal(enciphered, encrypt_image(before, KEY, SALT))
    np.testing.assert_array_equal(decrypt_image(enciphered, KEY, SALT), before)


def test_byte_order_does_not_change_the_values() -> None:
    image = an_image((40, 41), "<u2", 2)
    swapped = encrypt_image(image.astype(">u2"), KEY, SALT)
    assert swapped.dtype == np.dtype(">u2")
    np.testing.assert_array_equal(swapped, encrypt_image(image, KEY, SALT))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1, 1, 1, 1)])
def test_shapes_that_are_no_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedImage, match="dimensions"):
        encrypt_image(np.zeros(shape, np.uint8), KEY, SALT)


@pytest.mark.parametrize("dtype", ["O", "U3", "M8[s]", "c8", [("a", "u1")]])
def test_types_that_are_no_pixels_are_refused(dtype: object) -> None:
    with pytest.raises(UnsupportedImage, match="cannot be enciphered"):
        encrypt_image(np.zeros((2, 2), dtype), KEY, SALT)


@pytest.mark.parametrize(("key", "salt"), [(b"", SALT), (KEY[:31], SALT), (KEY, b""), (KEY, SALT + b"x")])
def test_keys_of_another_length_are_refused(key: bytes, salt: bytes) -> None:
    with pytest.raises(BadKey):
        encrypt_image(np.zeros((4, 4), np.uint8), key, salt)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="numpy"):
        by_name("abacus")


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("shape", [(64, 64), (1, 4096), (4096, 1), (40, 101), (1, 4001)])
def test_one_bit_changes_half_of_all_bits(shape: tuple[int, ...], place: str) -> None:
    """Over 30 keys, with the salt fixed: the flipped bits' share lies within five standard deviations of a half."""
    image = np.zeros(shape, np.uint8)
    index = {"first": 0, "middle": image.size // 2, "last": image.size - 1}[place]
    other = image.copy()
    other.reshape(-1)[index] = 0x80
    flipped = total = 0
    for number in range(30):
        key = number.to_bytes(32, "big")
        difference = encrypt_image(image, key, SALT) ^ encrypt_image(other, key, SALT)
        flipped += int(np.bitwise_count(difference).sum())
        total += 8 * image.size
        assert np.count_nonzero(difference) > 0.98 * image.size
    assert abs(flipped - total / 2) < 5 * math.sqrt(total) / 2


def test_a_key_bit_and_a_salt_bit_change_half_of_all_bits() -> None:
    image = an_image((64, 64), "|u1", 3)
    first = encrypt_image(image, KEY, SALT)
    for key, salt in ((bytes([KEY[0] ^ 1]) + KEY[1:], SALT), (KEY, SALT[:-1] + bytes([SALT[-1] ^ 0x80]))):
        bits = int(np.bitwise_count(first ^ encrypt_image(image, key, salt)).sum())
        assert abs(bits - 4 * image.size) < 5 * math.sqrt(8 * image.size) / 2


@pytest.mark.parametrize("fill", [0, 255])
def test_a_flat_image_gives_a_flat_histogram(fill: int) -> None:
    image = np.full((128, 128), fill, np.uint8)
    counts = np.bincount(encrypt_image(image, KEY, SALT).reshape(-1), minlength=256)
    expected = image.size / 256
    # The chi-square's 0.999999 quantile for 255 degrees of freedom is 375.
    assert float(((counts - expected) ** 2 / expected).sum()) < 375


def test_no_floating_point_stands_between_an_image_and_its_cipher_image() -> None:
    """Neither a division, nor a float literal, nor a float type, in any module that Algorithm 1 is computed by."""
    loops = ["confusion", "diffusion", "keystream", "network", "partition", "tiles", "weights"]
    names = [*loops, "features", "geometry", "inner", "words"]
    files = [FOLDER / f"{name}.py" for name in names] + sorted((FOLDER / "engine").glob("*.py"))
    assert len(files) == 20
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            assert not isinstance(node, ast.Div), file
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), file
            assert not (isinstance(node, ast.Name) and node.id == "float"), file
            assert not (isinstance(node, ast.Attribute) and node.attr.startswith("float")), file


def test_engines_are_handed_and_give_integers_only() -> None:
    seen: list[np.dtype[np.generic]] = []
    engine = _Watching(by_name("numpy"), seen)
    encrypt_image(an_image((50, 70), "<f4", 4), KEY, SALT, engine=engine)
    assert seen
    assert {dtype.kind for dtype in seen} <= {"u", "i", "b"}


class _Watching:
    """Any engine, with the types of all arrays that it gives and takes written down."""

    def __init__(self, engine: Engine, seen: list[np.dtype[np.generic]]) -> None:
        self._engine = engine
        self._seen = seen
        self.name = engine.name

    def __getattr__(self, name: str) -> object:
        method = getattr(self._engine, name)

        def watched(*arguments: object) -> object:
            result = method(*arguments)
            self._seen += [value.dtype for value in (*arguments, result) if isinstance(value, np.ndarray)]
            return result

        return watched
