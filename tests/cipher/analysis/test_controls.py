"""The ideal reference is a keyed permutation of images; the toy has its stated flaws, and four images break it."""

from collections.abc import Iterator

import numpy as np
import pytest

from cipher.analysis import chosen, control, sensitivity, toy, toy_attack
from cipher.analysis.pixels import Image
from cipher.analysis.subject import Subject
from cipher.errors import UnsupportedImage

KEY, SALT = bytes(range(32)), bytes(16)
SHAPES = [
    ((32, 32), "u1"),
    ((41, 37), "u1"),
    ((40, 30), "i2"),
    ((33, 35, 3), "u1"),
    ((3, 32, 32), "u2"),
    ((32, 32), "u4"),
]


def _images() -> Iterator[Image]:
    rng = np.random.default_rng(3)
    for shape, dtype in SHAPES:
        kind = np.dtype(dtype)
        yield rng.integers(0, min(np.iinfo(kind).max, 3000), shape, kind)


@pytest.mark.parametrize("subject", [control.WideBlock(), toy.Toy()])
@pytest.mark.parametrize("image", list(_images()))
def test_controls_decrypt_what_they_encrypt(subject: Subject, image: Image) -> None:
    cipher_image = subject.encrypt(image, KEY, SALT)
    assert cipher_image.dtype == image.dtype
    assert cipher_image.shape == image.shape
    assert not np.array_equal(cipher_image, image)
    assert np.array_equal(subject.decrypt(cipher_image, KEY, SALT), image)


@pytest.mark.parametrize("byte", [0, 31, 32, 2047])
def test_the_reference_changes_everywhere_for_any_changed_byte(byte: int) -> None:
    image = np.zeros((32, 32), dtype=np.uint16)
    changed = image.copy()
    changed.view(np.uint8).reshape(-1)[byte] ^= 1
    one, two = (control.WideBlock().encrypt(x, KEY, SALT) for x in (image, changed))
    halves = [sensitivity.changed_bits(a, b) for a, b in ((one[:2], two[:2]), (one[2:], two[2:])) if a.size >= 1024]
    assert abs(sensitivity.changed_bits(one, two) - 8192) < 400
    assert all(abs(count - 7680) < 400 for count in halves)


def test_the_reference_depends_on_key_and_salt() -> None:
    image = np.zeros((32, 32), dtype=np.uint8)
    answers = {
        control.WideBlock().encrypt(image, key, salt).tobytes()
        for key, salt in ((KEY, SALT), (KEY[::-1], SALT), (KEY, b"\x01" + SALT[1:]))
    }
    assert len(answers) == 3


def test_the_reference_refuses_a_tiny_image() -> None:
    with pytest.raises(UnsupportedImage, match="64 bytes"):
        control.WideBlock().encrypt(np.zeros((4, 4), dtype=np.uint8), KEY, SALT)


def test_the_key_stream_is_aes_in_counter_mode() -> None:
    # FIPS 197's AES-256 of the zero block under the zero key, and of the block that counts one.
    assert control.keystream(bytes(32), 32).hex() == (
        "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738b"
    )


def test_toy_key_stream_is_short() -> None:
    periods = []
    for index in range(40):
        _, stream = toy.schedule(bytes([index]) * 32, SALT, 32768)
        periods.append(toy_attack.Recovered(np.arange(32768), stream).period)
    assert max(periods) < 1000
    assert min(periods) > 1


def test_toy_mixing_is_linear_and_public() -> None:
    rng = np.random.default_rng(4)
    a, b = (rng.integers(0, 256, 1000, np.uint8) for _ in range(2))
    assert np.array_equal(toy.mix(a) ^ toy.mix(b), toy.mix(a ^ b))
    assert np.array_equal(toy.unmix(toy.mix(a)), a)


def test_toy_mixing_follows_its_recurrence() -> None:
    data = np.random.default_rng(5).integers(0, 256, 600, np.uint8)

    def times_x(value: int) -> int:
        return ((value << 1) ^ (0x11D if value & 0x80 else 0)) & 0xFF

    expected, previous = data.astype(int).tolist(), 0
    for _ in range(2):
        for i, value in enumerate(expected):
            previous = expected[i] = value ^ times_x(previous)
    assert toy.mix(data).tolist() == expected


@pytest.mark.parametrize("victim", list(_images()))
def test_four_chosen_images_recover_everything_of_the_toy(victim: Image) -> None:
    asked = []

    def oracle(image: Image) -> Image:
        asked.append(image)
        return toy.Toy().encrypt(image, KEY, SALT)

    learnt = toy_attack.recover(oracle, victim)
    assert len(asked) == toy_attack.CHOSEN_IMAGES == 4
    assert not any(np.array_equal(image, victim) for image in asked)
    cipher_image = toy.Toy().encrypt(victim, KEY, SALT)
    assert np.array_equal(learnt.decrypt(cipher_image), victim)
    assert np.array_equal(learnt.predict(victim), cipher_image)


def test_the_attack_learns_nothing_of_the_reference() -> None:
    victim = np.random.default_rng(6).integers(0, 2000, (64, 64), np.uint16)

    def oracle(image: Image) -> Image:
        return control.WideBlock().encrypt(image, KEY, SALT)

    learnt = toy_attack.recover(oracle, victim)
    right = toy_attack.matching_bytes(learnt.predict(victim), oracle(victim))
    assert right / victim.nbytes < 0.01
    assert learnt.period > 1000


def test_the_attack_needs_more_images_beyond_three_counters() -> None:
    huge = np.broadcast_to(np.uint8(0), (4097, 4096))
    with pytest.raises(UnsupportedImage, match="16777216"):
        toy_attack.chosen_images(huge)


def test_superposition_residual_of_the_toy_is_zero() -> None:
    rng = np.random.default_rng(7)
    a, b = (rng.integers(0, 4096, (32, 32), np.uint16) for _ in range(2))
    assert not chosen.xor_residual(lambda image: toy.Toy().encrypt(image, KEY, SALT), a, b).any()
    assert chosen.xor_residual(lambda image: control.WideBlock().encrypt(image, KEY, SALT), a, b).any()
