"""The equivalent-key attack reads images of version 1 that it has not seen, and gives up on version 2."""

import numpy as np
import pytest

from cipher.algorithm.engine import best
from cipher.analysis.equivalent_key.attack import SHAPE, find_equivalent_key
from cipher.analysis.equivalent_key.cell_keys import offset_and_key
from cipher.analysis.equivalent_key.line_keys import key_then_addend
from cipher.analysis.equivalent_key.oracle import Oracle
from cipher.analysis.equivalent_key.solvers import linear, q_tables
from cipher.analysis.equivalent_key.sweeps import fit_down
from cipher.analysis.equivalent_key.upward import solve_upward
from cipher.analysis.pixels import Image
from cipher.analysis.subject import Inner, Subject, Version1
from cipher.analysis.version1.diffusion import draw_alteration
from cipher.analysis.version1.engine import VectorisedEngine
from cipher.analysis.version1.geometry import grid_of
from cipher.analysis.version1.inner import _Streams
from cipher.analysis.version1.key_schedule import Stage

pytestmark = pytest.mark.skipif(best().name != "numba", reason="the attack's loops need numba (the extra 'fast')")

KEY, SALT = bytes(range(32)), bytes(16)


def encrypt_with(subject: Subject, image: Image) -> Image:
    return subject.encrypt(image, KEY, SALT)


def test_single_pixel_images_give_version_1_last_sweep() -> None:
    found = solve_upward(Oracle(lambda image: encrypt_with(Version1(), image), 8, np.random.default_rng(1)))
    geometry = grid_of(SHAPE, 1)
    stream = _Streams(KEY, SALT, geometry, VectorisedEngine()).begin(Stage.VERTICAL)
    true = draw_alteration(stream, geometry.rows, geometry.columns, 8).back
    assert (found.forward, found.sideways, found.shift) == (true.forward, true.sideways, true.shift)
    np.testing.assert_array_equal(found.offset, true.offset)


def test_version_2_gives_no_equivalent_key() -> None:
    outcome = find_equivalent_key(lambda image: encrypt_with(Inner(), image), 8, np.random.default_rng(1))
    assert outcome.stage == "last sweep"
    secret = np.arange(32768).astype(np.uint8).reshape(SHAPE)
    assert outcome.share_read(secret, encrypt_with(Inner(), secret)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 16])
def test_unseen_version_1_image_is_read(bits: int) -> None:
    outcome = find_equivalent_key(lambda image: encrypt_with(Version1(), image), bits, np.random.default_rng(3))
    word = np.uint8 if bits == 8 else np.uint16
    secret = np.random.default_rng(2).integers(0, 1 << bits, SHAPE).astype(word)
    assert outcome.share_read(secret, encrypt_with(Version1(), secret)) > 0.9
    assert outcome.images < 10_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 7])
def test_key_with_a_cell_that_two_keys_fit_is_read(seed: int) -> None:
    """For these keys the attack once took the wrong one of two keys, and gave up at the second sweep."""
    drawn = np.random.default_rng(1000 + seed)
    key, salt = drawn.bytes(32), drawn.bytes(16)
    outcome = find_equivalent_key(lambda image: Version1().encrypt(image, key, salt), 8, np.random.default_rng(seed))
    secret = np.random.default_rng(2).integers(0, 256, SHAPE).astype(np.uint8)
    assert outcome.share_read(secret, Version1().encrypt(secret, key, salt)) > 0.9


@pytest.mark.parametrize("seed", range(6))
def test_of_two_keys_that_fit_a_cell_the_row_below_tells_the_right_one(seed: int) -> None:
    rng, (q, _) = np.random.default_rng(seed), q_tables(8)
    images, rows, columns, a, b, shift = 400, 7, 4, 161, 43, 2
    base = np.repeat(np.arange(4), images // 4)
    plain = rng.integers(0, 256, (4, rows, columns))
    plain[:, 3, 1] &= 0xF0  # the low half is 0 in all bases: q's top bit can be mistaken for a bit of the key
    touched = rng.random((images, rows, columns)) < 0.3
    touched[:, 0] = True
    v = np.where(touched, rng.integers(0, 256, touched.shape), plain[base])
    offset, keys = rng.integers(0, 256, columns), rng.integers(0, 256, (rows, columns))
    y = v.copy()
    for row in range(1, rows):
        for column in range(columns):
            sums = a * y[:, row - 1, column] + b * y[:, row - 1, (column + shift) % columns] + offset[column]
            y[:, row, column] = (v[:, row, column] + q[sums & 255]) & 255
    u = (y ^ keys).astype(np.uint16)
    found, parity = np.zeros((rows, columns), np.int64), np.zeros((rows, columns), np.int64)
    found[:2] = keys[:2] & 127
    y_found, v_found = np.zeros(u.shape, np.uint16), np.zeros(u.shape, np.uint16)
    y_found[:, 0] = u[:, 0] ^ found[0].astype(np.uint16)
    fit_down(u, touched, base, y_found, v_found, a, b, shift, offset, found, parity, q, 8)
    inner = slice(1, rows - 1)
    np.testing.assert_array_equal(found[inner] & 127, keys[inner] & 127)
    np.testing.assert_array_equal(v_found[:, inner] & 127, v[:, inner] & 127)


# The solvers, on equations whose solution is known


def test_linear_equation_is_solved() -> None:
    y, x = np.random.default_rng(3).integers(0, 1 << 16, (2, 20))
    assert linear((4321 * y + 177 * x + 5) & 0xFFFF, y, x, 0xFFFF) == (True, 4321, 177, 5)


def test_offset_and_key_under_q_are_among_the_solutions() -> None:
    rng, (q, _) = np.random.default_rng(4), q_tables(8)
    sums, plain = rng.integers(0, 256, 200), np.full(200, 99)
    word = ((plain + q[(sums + 77) & 255]) & 255) ^ 45
    assert [77, 45] in offset_and_key(word, sums, np.zeros(200, np.int64), 8, 4096).tolist()


def test_key_then_addend_are_found_up_to_the_top_bit() -> None:
    x = np.random.default_rng(5).integers(0, 256, 50)
    found = key_then_addend(x, ((x ^ 45) + 200) & 255, 8, 256).tolist()
    assert sorted(found) == [[45, 200], [45 ^ 128, 200 ^ 128]]
