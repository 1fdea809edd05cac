"""The whole evaluation of a subject on an image: fresh keys, one fixed salt, lines with verdicts at the end."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cipher.analysis import chosen, quality, sensitivity, tallies, toy_attack
from cipher.analysis.line import Line, Verdict, exact, judge, threshold
from cipher.analysis.pixels import Image, from_flat, planes, words
from cipher.analysis.structure import Structure
from cipher.analysis.subject import KEY_BYTES, SALT_BYTES, Subject

Progress = Callable[[int], None]
"""Called with the number of keys done since the last call."""

PLAINTEXT = "one plaintext bit changed"
KEY = "one key bit changed"
SALT = "one salt bit changed"
CHOSEN = "chosen images"
DECRYPTION = "decryption"

KNOWN_ATTACKS = "Li, Zhang, Xie 2019 (paper, ref. 17)"


@dataclass(frozen=True)
class Effort:
    """Numbers of keys and sequences of an evaluation."""

    keys: int = 300
    """Fresh keys for each measure that is taken key by key."""
    chosen_keys: int = 60
    """Fresh keys for the chosen images, each with about a dozen encryptions."""
    likeness_keys: int = 16
    """Cipher images, and random ones, whose SSIM is compared."""
    sequences: int = 60
    """Sequences of a million bits for SP 800-22."""

    @classmethod
    def for_keys(cls, keys: int) -> "Effort":
        """Scale everything with the number of keys."""
        return cls(keys, max(4, keys // 5), min(16, max(4, keys // 4)), max(4, keys // 5))

    @property
    def steps(self) -> int:
        """Progress steps of one subject."""
        return self.keys + self.chosen_keys


@dataclass(frozen=True)
class Evaluation:
    """All lines of one subject on one image."""

    subject: str
    lines: tuple[Line, ...]
    threshold: float
    """Threshold for each P-value."""

    @property
    def failed(self) -> tuple[Line, ...]:
        """The lines that did not pass."""
        return tuple(line for line in self.lines if line.verdict is Verdict.FAIL)

    @property
    def passed(self) -> bool:
        """Whether no line failed."""
        return not self.failed


@dataclass(frozen=True)
class Seeds:
    """Fresh keys and the fixed salt of an evaluation, all from one seed, so that every figure can be reproduced."""

    seed: int

    def key(self, purpose: str, index: int) -> bytes:
        """A fresh key."""
        return self._derive(f"key/{purpose}/{index}", KEY_BYTES)

    @property
    def salt(self) -> bytes:
        """The one salt that every measurement shares (rule zero)."""
        return self._derive("salt", SALT_BYTES)

    def generator(self, purpose: str) -> np.random.Generator:
        """A random generator for positions, noise and reference images."""
        return np.random.default_rng(int.from_bytes(self._derive(f"generator/{purpose}", 16), "big"))

    def keys(self, purpose: str, count: int) -> Iterator[tuple[int, bytes]]:
        """Keys by number."""
        return ((index, self.key(purpose, index)) for index in range(count))

    def _derive(self, label: str, size: int) -> bytes:
        return hashlib.shake_256(f"cipher evaluation/{self.seed}/{label}".encode()).digest(size)


def evaluate(subject: Subject, image: Image, effort: Effort, seeds: Seeds, progress: Progress) -> Evaluation:
    """Run every statistical measure of the suite on one subject and one image.

    Args:
        subject: the cipher under test.
        image: at least 1024 integer pixels of 8, 16 or 32 bits.
        effort: numbers of keys and sequences.
        seeds: source of keys and salt.
        progress: called with 1 for each key done, `effort.steps` times in all.

    Raises:
        UnsupportedImage: the image is too small or of another type.
    """
    words(image)  # refuses what cannot be measured before any work is done
    lines = [
        *_key_by_key(subject, image, effort, seeds, progress),
        *_chosen(subject, image, effort, seeds, progress),
    ]
    return Evaluation(subject.name, judge(lines), threshold(lines))


def _key_by_key(subject: Subject, image: Image, effort: Effort, seeds: Seeds, progress: Progress) -> list[Line]:
    rng, salt = seeds.generator("positions"), seeds.salt
    neighbours, flatness, likeness = tallies.Neighbours(), tallies.Flatness(), tallies.Likeness(image)
    plaintext, key_change = tallies.Differences(PLAINTEXT), tallies.Differences(KEY)
    bit_planes = tallies.BitPlanes(PLAINTEXT)
    salt_change = tallies.Differences(SALT, pixelwise=False)
    wrong_key = tallies.Matches(KEY, "decrypted with one key bit wrong: right bytes", "chance")
    restored = 0
    positions: dict[int, bool] = {}
    structural: list[float] = []
    for index, key in seeds.keys(subject.name, effort.keys):
        cipher_image = subject.encrypt(image, key, salt)
        restored += _identical(image, subject.decrypt(cipher_image, key, salt))
        neighbours.add(cipher_image)
        flatness.add(cipher_image)
        likeness.add(cipher_image)
        if index < effort.likeness_keys and _has_windows(image):
            structural.append(quality.ssim(image, cipher_image))

        pixel = _position(index, image, rng)
        bit = int(rng.integers(8 * image.dtype.itemsize))
        other = subject.encrypt(sensitivity.flip_pixel_bit(image, pixel, bit), key, salt)
        plaintext.add(cipher_image, other)
        bit_planes.add(bit, cipher_image, other)

        key_bit = index * 97 % sensitivity.KEY_BITS  # an odd step: all 256 bits in turn
        near = sensitivity.flip_bit(key, key_bit)
        other = subject.encrypt(image, near, salt)
        key_change.add(cipher_image, other)
        share = sensitivity.changed_bits(cipher_image, other) / sensitivity.bits(image)
        positions[key_bit] = positions.get(key_bit, True) and 0.4 < share < 0.6
        wrong_key.add(image, subject.decrypt(cipher_image, near, salt))

        salt_bit = index * 29 % (8 * SALT_BYTES)
        salt_change.add(cipher_image, subject.encrypt(image, key, sensitivity.flip_bit(salt, salt_bit)))
        progress(1)
    return [
        *neighbours.lines(),
        *flatness.lines(),
        *plaintext.lines(),
        *bit_planes.lines(),
        *key_change.lines(),
        *wrong_key.lines(),
        _key_bits(positions),
        *salt_change.lines(),
        *likeness.lines(),
        *_structure(structural, image, seeds),
        exact(
            DECRYPTION,
            "images that come back bit for bit (MSE 0)",
            restored / effort.keys,
            restored == effort.keys,
            criterion="all of them",
            source="paper, Algorithm 1; requirement",
            keys=effort.keys,
        ),
    ]


def _chosen(subject: Subject, image: Image, effort: Effort, seeds: Seeds, progress: Progress) -> list[Line]:
    salt = seeds.salt
    flat = {name: tallies.Flatness(CHOSEN, name) for name in ("black image", "white image", "black xor white")}
    flat |= {name: tallies.Flatness(CHOSEN, name) for name in ("counting image", "counting xor black")}
    neighbours = tallies.Neighbours(CHOSEN, "black image")
    residuals = {name: tallies.Flatness(CHOSEN, name) for name in ("xor residual", "sum residual")}
    zeros = {
        name: tallies.Matches(CHOSEN, f"{name}: zero bytes", f"superposition; {KNOWN_ATTACKS}") for name in residuals
    }
    attack = tallies.Matches(CHOSEN, "bytes predicted after four chosen images", f"`toy_attack`; {KNOWN_ATTACKS}")
    black, white = chosen.black(image), chosen.white(image)
    counting = toy_attack.chosen_images(image)[1] if image.nbytes <= toy_attack.LARGEST else None
    second = counting if counting is not None else white
    # A random image, since the one under test could be one of the chosen ones, of which all is known anyway.
    probe = _random_image(image, seeds.generator("probe"))
    structure = Structure(subject, probe, salt, seeds.generator("structure"))
    for _, key in seeds.keys(f"{subject.name}/chosen", effort.chosen_keys):

        def encrypt(plain: Image, key: bytes = key) -> Image:
            return subject.encrypt(plain, key, salt)

        of_black, of_white = encrypt(black), encrypt(white)
        flat["black image"].add(of_black)
        neighbours.add(of_black)
        flat["white image"].add(of_white)
        flat["black xor white"].add(chosen.xor(of_black, of_white))
        of_second = encrypt(second)
        flat["counting image"].add(of_second)
        flat["counting xor black"].add(chosen.xor(of_second, of_black))
        for name, residual in (("xor residual", chosen.xor_residual), ("sum residual", chosen.sum_residual)):
            left = residual(encrypt, probe, second)
            residuals[name].add(left)
            zeros[name].add(left, black)
        if counting is not None:
            recovered = toy_attack.recover(encrypt, image)
            attack.add(recovered.predict(probe), encrypt(probe))
        structure.add(key)
        progress(1)
    lines = [line for tally in flat.values() for line in tally.lines(with_entropy=False)]
    lines += neighbours.lines()
    lines += [line for tally in residuals.values() for line in tally.lines(with_entropy=False)]
    lines += [line for tally in zeros.values() for line in tally.lines()]
    lines += structure.lines()
    return lines + (attack.lines() if counting is not None else [])


def _identical(first: Image, second: Image) -> bool:
    return str(first.dtype) == str(second.dtype) and bool(np.array_equal(first, second))


def _position(index: int, image: Image, rng: np.random.Generator) -> int:
    """The pixel to change: first, last and middle in turn with random ones, since ends are where diffusion is weak."""
    corners = (0, image.size - 1, image.size // 2)
    return corners[index // 2 % 3] if index % 2 == 0 else int(rng.integers(image.size))


def _key_bits(positions: dict[int, bool]) -> Line:
    moved = sum(positions.values())
    return exact(
        KEY,
        "key bits that change 40 % to 60 % of the cipher image",
        moved,
        moved == len(positions),
        criterion=f"all {len(positions)} of the {sensitivity.KEY_BITS} that were tried",
        source="key space 2^256; NIST SP 800-57 asks for 2^112 or more",
        keys=len(positions),
    )


def _has_windows(image: Image) -> bool:
    return min(int(side) for side in planes(image).shape[1:]) >= 11


def _random_image(like: Image, rng: np.random.Generator) -> Image:
    """An image of uniformly random bytes."""
    return from_flat(rng.integers(0, 256, like.nbytes, np.uint8), like)


def _structure(values: list[float], image: Image, seeds: Seeds) -> list[Line]:
    """SSIM of plain and cipher images against that of plain and random images, by Welch's test."""
    if not values:
        return []
    rng = seeds.generator("ssim")
    random = [quality.ssim(image, _random_image(image, rng)) for _ in values]
    p_value = float(stats.ttest_ind(values, random, equal_var=False).pvalue)
    line = Line(
        tallies.SIMILARITY,
        "SSIM",
        float(np.mean(values)),
        "that of as many random images (Welch's test)",
        "Wang, Bovik, Sheikh, Simoncelli 2004",
        expected=float(np.mean(random)),
        keys=len(values),
        p_pooled=p_value,
        values=tuple(values),
    )
    return [line]
