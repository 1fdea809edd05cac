"""The whole evaluation of an image: inner cipher, ideal control, toy and its attack. Draws nothing."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cipher.analysis import correlation, robustness, toy_attack
from cipher.analysis.control import WideBlock
from cipher.analysis.line import Line, Verdict
from cipher.analysis.pixels import Image
from cipher.analysis.randomness import cipher_sequences, control_sequences, examine
from cipher.analysis.sealed import refusals
from cipher.analysis.subject import Inner, Subject, Version1
from cipher.analysis.suite import Effort, Evaluation, Seeds, evaluate
from cipher.analysis.toy import Toy
from experiments.image_cipher.images import NamedImage

Progress = Callable[[str, int, int], None]
"""Called with the name of the step, the units done and the units in all."""

_CONTROL_SIDE = 512
_SEALED_TRIALS = 40
NOISE_TRIALS = 8


@dataclass(frozen=True)
class AttackResult:
    """The four-chosen-image attack against one subject."""

    subject: str
    cipher_image: Image
    recovered: Image
    right_bytes: float
    """Share of the victim's cipher bytes that the attack foretells, having seen the four others; 1/256 by chance."""
    stream: np.ndarray[tuple[int], np.dtype[np.uint8]]
    """The key stream as the attack recovers it."""
    period: int
    """The period of its second half, in bytes."""


@dataclass(frozen=True)
class NoiseResult:
    """Results of a way of damaging the cipher image: means over keys, and an example."""

    name: str
    damaged_pixels: float
    wrong_pixels: float
    intact_share: float
    psnr: float
    damaged: Image
    restored: Image


@dataclass(frozen=True)
class Study:
    """All results on one image."""

    image: NamedImage
    effort: Effort
    cipher_image: Image
    restored: Image
    ours: tuple[Evaluation, ...]
    """The suite and SP 800-22 on the inner cipher, and the sealed image's refusals."""
    positive: tuple[Evaluation, ...]
    """The suite on an ideal cipher and SP 800-22 on AES-CTR; empty where controls were not asked for."""
    negative: tuple[Evaluation, ...]
    """The suite and SP 800-22 on the toy."""
    version1: tuple[Evaluation, ...]
    """The suite on the first version of the inner cipher, the second negative control."""
    attacks: tuple[AttackResult, ...]
    noise: tuple[NoiseResult, ...]

    @property
    def correlation(self) -> tuple[float, float, float]:
        """Our row of the paper's Table 2: r of one cipher image, the one that the report shows."""
        a, b, c = (result.r for result in correlation.adjacent(self.cipher_image))
        return a, b, c

    @property
    def bounds(self) -> tuple[float, float, float]:
        """Bounds on |r| that independent pixels stay under with probability 0.999, for each direction."""
        a, b, c = (result.bound for result in correlation.adjacent(self.cipher_image))
        return a, b, c

    @property
    def surprises(self) -> list[str]:
        """Failed lines and controls that were not flagged; empty for a sound cipher and a sound suite."""
        found = [f"{e.subject}: {line.group}, {line.name}" for e in (*self.ours, *self.positive) for line in e.failed]
        if self.negative and self.negative[0].passed:
            found.append("the toy was not flagged: the suite is blind")
        if self.version1 and self.version1[0].passed:
            found.append("version 1 of the inner cipher was not flagged: the suite is blind")
        found += [
            f"the attack foretells only {attack.right_bytes:.1%} of the toy's victim"
            for attack in self.attacks
            if attack.subject == Toy.name and attack.right_bytes < 1
        ]
        return found


def run_study(image: NamedImage, effort: Effort, seeds: Seeds, *, controls: bool, progress: Progress) -> Study:
    """Evaluate the inner cipher on an image and, if asked for, the controls on the same image.

    The controls measure the suite rather than the image, so a larger one is cropped to 512 x 512 for them.
    """
    inner, key = Inner(), seeds.key("picture", 0)
    pixels = image.pixels
    cipher_image = inner.encrypt(pixels, key, seeds.salt)
    ours = [
        _evaluate(inner, pixels, effort, seeds, progress),
        _examine(inner, pixels, effort.sequences, seeds, progress),
        _sealed(pixels, seeds, progress),
    ]
    positive, negative, version1 = [], [], []
    smaller = crop_to_control(pixels)
    if controls:
        positive = [_evaluate(WideBlock(), smaller, effort, seeds, progress)]
        positive.append(
            examine(
                "AES-256-CTR",
                control_sequences(seeds),
                effort.sequences,
                _step(progress, "SP 800-22, AES-CTR", effort.sequences),
            )
        )
        negative = [_evaluate(Toy(), smaller, effort, seeds, progress)]
        version1 = [_evaluate(Version1(), smaller, effort, seeds, progress)]
        negative.append(_examine(Toy(), smaller, max(4, effort.sequences // 3), seeds, progress))
    attacks = [attack_subject(subject, smaller, key, seeds.salt) for subject in (Toy(), inner)]
    return Study(
        image=image,
        effort=effort,
        cipher_image=cipher_image,
        restored=inner.decrypt(cipher_image, key, seeds.salt),
        ours=tuple(ours),
        positive=tuple(positive),
        negative=tuple(negative),
        version1=tuple(version1),
        attacks=tuple(attacks),
        noise=tuple(_noise(inner, pixels, case, seeds) for case in robustness.CASES),
    )


def _step(progress: Progress, name: str, total: int) -> Callable[[int], None]:
    done = 0
    progress(name, 0, total)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(name, done, total)

    return advance


def _evaluate(subject: Subject, image: Image, effort: Effort, seeds: Seeds, progress: Progress) -> Evaluation:
    return evaluate(subject, image, effort, seeds, _step(progress, subject.name, effort.steps))


def _examine(subject: Subject, image: Image, sequences: int, seeds: Seeds, progress: Progress) -> Evaluation:
    advance = _step(progress, f"SP 800-22, {subject.name}", sequences)
    return examine(subject.name, cipher_sequences(subject, image, seeds), sequences, advance)


def _sealed(image: Image, seeds: Seeds, progress: Progress) -> Evaluation:
    advance = _step(progress, "sealed image", 1)
    line = refusals(image, _SEALED_TRIALS, seeds)
    advance(1)
    return Evaluation("sealed image", (line,), 0.0)


def attack_subject(subject: Subject, victim: Image, key: bytes, salt: bytes) -> AttackResult:
    """Learn a subject's key stream from four chosen images, and foretell and decrypt a fifth one, the victim's."""

    def encrypt(plain: Image) -> Image:
        return subject.encrypt(plain, key, salt)

    learnt = toy_attack.recover(encrypt, victim)
    cipher_image = encrypt(victim)
    recovered = learnt.decrypt(cipher_image)
    right = toy_attack.matching_bytes(learnt.predict(victim), cipher_image) / victim.nbytes
    return AttackResult(subject.name, cipher_image, recovered, right, learnt.stream, learnt.period)


def _noise(subject: Subject, image: Image, case: robustness.Case, seeds: Seeds) -> NoiseResult:
    rng = seeds.generator(f"noise/{case.name}")
    outcomes = []
    for _, key in seeds.keys(f"noise/{case.name}", NOISE_TRIALS):
        cipher_image = subject.encrypt(image, key, seeds.salt)
        damaged = case.damage(cipher_image, rng)
        restored = subject.decrypt(damaged, key, seeds.salt)
        outcomes.append((robustness.outcome(image, cipher_image, damaged, restored), damaged))
    results = [result for result, _ in outcomes]
    return NoiseResult(
        name=case.name,
        damaged_pixels=float(np.mean([r.damaged_pixels for r in results])),
        wrong_pixels=float(np.mean([r.wrong_pixels for r in results])),
        intact_share=float(np.mean([r.intact_share for r in results])),
        psnr=float(np.mean([r.psnr for r in results])),
        damaged=outcomes[0][1],
        restored=results[0].restored,
    )


def crop_to_control(image: Image) -> Image:
    """The middle 512 x 512 of the first plane of a large image; a smaller one whole."""
    if image.size <= _CONTROL_SIDE**2:
        return image
    first = image[0] if image.ndim == 4 or (image.ndim == 3 and image.shape[-1] not in (3, 4)) else image
    top, left = (max(0, (side - _CONTROL_SIDE) // 2) for side in first.shape[:2])
    return np.ascontiguousarray(first[top : top + _CONTROL_SIDE, left : left + _CONTROL_SIDE])


def group_lines(evaluation: Evaluation) -> dict[str, list[Line]]:
    """The lines of an evaluation by group, in order."""
    found: dict[str, list[Line]] = {}
    for line in evaluation.lines:
        found.setdefault(line.group, []).append(line)
    return found


def find_worst_verdict(lines: list[Line]) -> Verdict:
    """Find the worst verdict of a group's lines."""
    verdicts = {line.verdict for line in lines}
    return next((v for v in (Verdict.FAIL, Verdict.PASS) if v in verdicts), Verdict.REPORTED)
