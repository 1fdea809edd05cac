"""The lines that look for structure: version 1 and the toy are flagged, the inner cipher and an ideal one pass."""

from collections.abc import Callable

import numpy as np
import pytest

from cipher.analysis.control import WideBlock
from cipher.analysis.line import Line, Verdict, judge
from cipher.analysis.pixels import Image
from cipher.analysis.structure import SPREAD, STRUCTURE, TRAIL, Structure
from cipher.analysis.subject import Inner, Subject, Version1
from cipher.analysis.suite import Seeds
from cipher.analysis.tiny import Filled, tiny_lines
from cipher.analysis.toy import Toy
from cipher.analysis.version1_attacks import seven_images, sign_plane_share
from tests.cipher import recipes

SEEDS = Seeds(1)
KEYS = 16


def run(subject: Subject, word: type) -> tuple[Line, ...]:
    image = np.random.default_rng(4).integers(0, np.iinfo(word).max, (64, 64), dtype=word)
    structure = Structure(subject, image, SEEDS.salt, np.random.default_rng(5))
    for _, key in SEEDS.keys("structure", KEYS):
        structure.add(key)
    return judge(structure.lines())


def failed(lines: tuple[Line, ...]) -> set[tuple[str, str]]:
    return {(line.group, line.name) for line in lines if line.verdict is Verdict.FAIL}


@pytest.mark.parametrize("word", [np.uint8, np.uint16])
@pytest.mark.parametrize("subject", [Inner, WideBlock])
def test_sound_ciphers_pass(subject: Callable[[], Subject], word: type) -> None:
    assert failed(run(subject(), word)) == set()


def test_every_kind_of_line_flags_a_control() -> None:
    by_version1, by_toy = failed(run(Version1(), np.uint16)), failed(run(Toy(), np.uint16))
    assert (STRUCTURE, "bit plane 15 flipped: bytes that follow") in by_version1
    assert (STRUCTURE, "half of the range added: bytes that follow") in by_version1
    assert (STRUCTURE, "keys of which seven images give a sweep's constants") in by_version1
    assert any(group == SPREAD for group, _ in by_version1)
    assert any(group == TRAIL for group, _ in by_toy)
    for second in ("tiles", "rows", "columns"):
        assert (STRUCTURE, f"xor residual with equal {second}: zero bytes") in by_toy


@pytest.mark.parametrize("word", [np.uint8, np.uint16])
def test_attacks_break_version_1_and_not_version_2(word: type) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 200, (32, 32)).astype(word)
    for subject, broken in ((Version1(), True), (Inner(), False)):

        def encrypt(plain: Image, subject: Subject = subject) -> Image:
            return subject.encrypt(plain, bytes(range(32)), bytes(16))

        assert (sign_plane_share(encrypt, image) == 1) is broken
        assert seven_images(encrypt, image, rng, pixels=12 if broken else 2).solved is broken


@pytest.mark.parametrize(
    ("shape", "word"), [((1, 1), np.uint8), ((4, 4), np.uint8), ((1, 17), np.uint8), ((2, 4), np.uint16)]
)
def test_least_images_change_as_ideal_ones_do(shape: tuple[int, ...], word: type) -> None:
    assert failed(tiny_lines(Filled(Inner()), shape, word, 300, SEEDS)) == set()


def test_two_pixel_images_flag_version_1() -> None:
    assert failed(tiny_lines(Version1(), (1, 2), np.uint8, 600, SEEDS))


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("8 bit odd sizes", "a1f425e3f6b02dc3ed0c6477a0c53166e278566a114908bfc852e76711d188c8"),
        ("16 bit 31 pixels", "4c50948a4a6f0418db81b3b569a5eef17fefe544701330bed150abbba9a1f0ad"),
        ("12 bit in 16", "d977b3764a67b9b29d77eac3be7487ec849807a1648099523ce18d675cfbe42e"),
    ],
)
def test_control_is_version_1_as_it_was_frozen(name: str, digest: str) -> None:
    image, (key, salt) = recipes.image(name), recipes.key_and_salt(name)
    made = Version1().encrypt(image, key, salt)
    assert recipes.digest(made.tobytes()) == digest
    np.testing.assert_array_equal(Version1().decrypt(made, key, salt), image)
