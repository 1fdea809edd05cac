"""The suite passes an ideal cipher and the inner cipher, and flags each weak cipher for its own weakness."""

import dataclasses
import hashlib

import numpy as np
import pytest

from cipher.analysis import line as lines
from cipher.analysis import tallies
from cipher.analysis.control import WideBlock
from cipher.analysis.line import Verdict
from cipher.analysis.pixels import Image, flat, from_flat
from cipher.analysis.randomness import cipher_sequences, control_sequences, examine
from cipher.analysis.subject import Inner, Subject
from cipher.analysis.suite import CHOSEN, KEY, PLAINTEXT, Effort, Evaluation, Seeds, evaluate
from cipher.analysis.toy import Toy
from cipher.errors import UnsupportedImage


def _scan() -> Image:
    """A 12-bit picture with smooth parts, edges, a black border and noise, as a scan has."""
    rng = np.random.default_rng(9)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    body = 900 * np.exp(-3 * (x**2 + y**2)) + 700 * (np.hypot(x - 0.2, y + 0.1) < 0.3)
    return np.where(np.hypot(x, y) < 0.9, body + rng.normal(0, 12, x.shape) + 200, 0).astype(np.int16)


IMAGE = _scan()
EFFORT = Effort(keys=60, chosen_keys=12, likeness_keys=8, sequences=4)


def _run(subject: Subject, seed: int = 1, image: Image = IMAGE, effort: Effort = EFFORT) -> Evaluation:
    return evaluate(subject, image, effort, Seeds(seed), lambda _: None)


class _Xor:
    """A stream cipher with a fixed salt: a changed pixel changes itself and nothing else."""

    name = "xor"

    def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
        stream = hashlib.shake_256(key + salt).digest(image.nbytes)
        return from_flat(flat(image) ^ np.frombuffer(stream, np.uint8), image)

    decrypt = encrypt


class _Upwards:
    """An ideal cipher spoilt in one spot: its last row does not depend on the rest of the image."""

    name = "last row apart"

    def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
        cipher_image = WideBlock().encrypt(image, key, salt)
        cipher_image[-1] = _Xor().encrypt(image[-1:], key, salt)[0]
        return cipher_image

    def decrypt(self, cipher_image: Image, key: bytes, salt: bytes) -> Image:
        return cipher_image


class _HalfTheKey:
    """An ideal cipher that looks at 128 of its 256 key bits."""

    name = "half the key"

    def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
        return WideBlock().encrypt(image, key[:16] + bytes(16), salt)

    def decrypt(self, cipher_image: Image, key: bytes, salt: bytes) -> Image:
        return WideBlock().decrypt(cipher_image, key[:16] + bytes(16), salt)


def _failed(evaluation: Evaluation) -> set[tuple[str, str]]:
    return {(line.group, line.name) for line in evaluation.failed}


@pytest.mark.parametrize("seed", range(8))
def test_an_ideal_cipher_passes(seed: int) -> None:
    evaluation = _run(WideBlock(), seed)
    assert _failed(evaluation) == set()
    assert len(evaluation.lines) > 50


def test_our_cipher_passes() -> None:
    assert _failed(_run(Inner())) == set()


@pytest.mark.parametrize("image", [IMAGE.astype(np.uint8), np.dstack([IMAGE.astype(np.uint8)] * 3)])
def test_our_cipher_passes_on_other_kinds_of_image(image: Image) -> None:
    assert _failed(_run(Inner(), image=image, effort=Effort(40, 8, 4))) == set()


def test_the_toy_passes_what_is_customary_and_is_flagged_all_the_same() -> None:
    evaluation = _run(Toy())
    failed = _failed(evaluation)
    found = {(line.group, line.name): line for line in evaluation.lines}
    for byte in ("low byte", "high byte"):
        assert (tallies.HISTOGRAM, f"chi-square, {byte}") not in failed
        assert (tallies.ENTROPY, f"bits a byte, {byte}") not in failed
        npcr = found[PLAINTEXT, f"NPCR, {byte}"]
        assert "60 of 60 above" in npcr.note  # the customary one-sided bound sees nothing
        assert npcr.verdict is Verdict.FAIL
        assert npcr.outside == 60
        assert (CHOSEN, f"black image, chi-square, {byte}") in failed
    # No single key's correlation stands out.
    assert all((line.outside or 0) <= 3 for line in evaluation.lines if line.group == tallies.CORRELATION)
    assert found[CHOSEN, "xor residual: zero bytes"].statistic == 1.0
    assert found[CHOSEN, "bytes predicted after four chosen images"].statistic == 1.0
    assert (CHOSEN, "bytes predicted after four chosen images") in failed


def test_a_stream_cipher_with_a_fixed_salt_is_flagged() -> None:
    failed = _failed(_run(_Xor()))
    assert (PLAINTEXT, "bits changed") in failed
    assert (PLAINTEXT, "NPCR, low byte") in failed
    assert (CHOSEN, "xor residual: zero bytes") in failed
    assert (tallies.HISTOGRAM, "chi-square, low byte") not in failed


def test_a_corner_that_a_change_does_not_reach_is_flagged() -> None:
    failed = _failed(_run(_Upwards()))
    assert (PLAINTEXT, "evenness of the change over positions") in failed
    assert ("decryption", "images that come back bit for bit (MSE 0)") in failed


def test_unused_key_bits_are_flagged() -> None:
    evaluation = _run(_HalfTheKey())
    assert (KEY, "key bits that change 40 % to 60 % of the cipher image") in _failed(evaluation)


def test_a_weak_permutation_of_pixels_is_flagged_by_its_histogram() -> None:
    class Shuffle:
        name = "shuffle"

        def encrypt(self, image: Image, key: bytes, salt: bytes) -> Image:
            order = np.random.default_rng(list(key)).permutation(image.size)
            return np.asarray(image.reshape(-1)[order].reshape(image.shape))

        def decrypt(self, cipher_image: Image, key: bytes, salt: bytes) -> Image:
            plain = np.empty_like(cipher_image.reshape(-1))
            plain[np.random.default_rng(list(key)).permutation(plain.size)] = cipher_image.reshape(-1)
            return np.asarray(plain.reshape(cipher_image.shape))

    evaluation = _run(Shuffle())
    assert (tallies.HISTOGRAM, "chi-square, low byte") in _failed(evaluation)
    assert (tallies.SIMILARITY, "PSNR, dB") in _failed(evaluation)
    assert all(line.verdict is Verdict.PASS for line in evaluation.lines if line.group == "decryption")


def test_same_seed_gives_the_same_evaluation() -> None:
    effort = Effort(20, 4, 4)
    first, second, other = (_run(WideBlock(), seed, effort=effort) for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_progress_adds_up() -> None:
    steps: list[int] = []
    effort = Effort(20, 4, 4)
    evaluate(WideBlock(), IMAGE, effort, Seeds(1), steps.append)
    assert sum(steps) == effort.steps


def test_suite_fixes_salts_and_draws_fresh_keys() -> None:
    seeds = Seeds(3)
    assert seeds.salt == Seeds(3).salt
    assert len({key for _, key in seeds.keys("x", 500)}) == 500
    assert seeds.key("x", 0) != seeds.key("y", 0)


def test_an_image_that_is_too_small_is_refused_before_any_work() -> None:
    with pytest.raises(UnsupportedImage, match="1024 pixels"):
        _run(Inner(), image=np.zeros((16, 16), dtype=np.uint8))


def test_a_narrow_image_is_measured_without_ssim() -> None:
    evaluation = _run(WideBlock(), image=IMAGE.reshape(8, -1), effort=Effort(20, 4, 4))
    assert "SSIM" not in {line.name for line in evaluation.lines}
    assert evaluation.passed


def test_an_image_of_one_row_has_horizontal_neighbours_only() -> None:
    evaluation = _run(WideBlock(), image=IMAGE.reshape(1, -1), effort=Effort(20, 4, 4))
    names = {line.name for line in evaluation.lines if line.group == tallies.CORRELATION}
    assert names == {"horizontal", "horizontal, low byte"}
    assert evaluation.passed


def test_a_constant_image_is_measured_without_its_correlation() -> None:
    evaluation = _run(WideBlock(), image=np.zeros((64, 64), np.uint8), effort=Effort(20, 4, 4))
    assert "pixel by pixel correlation" not in {line.name for line in evaluation.lines}
    assert evaluation.passed


def test_verdicts_share_one_level_over_all_p_values() -> None:
    base = lines.Line("g", "n", 0.0, "c", "s", p_rate=0.5, p_pooled=4e-4)
    alone = lines.judge([base])
    assert alone[0].verdict is Verdict.FAIL
    assert lines.threshold([base]) == pytest.approx(lines.FAMILY / 2)
    many = lines.judge([base] + [dataclasses.replace(base, p_pooled=0.5)] * 9)
    assert many[0].verdict is Verdict.PASS
    plain = lines.Line("g", "n", 0.0, "c", "s")
    assert lines.judge([plain])[0].verdict is Verdict.REPORTED


def test_sp800_22_passes_aes_and_flags_the_toy() -> None:
    seeds = Seeds(1)
    ideal = examine("AES-256-CTR", control_sequences(seeds), 4, lambda _: None)
    assert ideal.passed
    assert len(ideal.lines) == 15
    weak = examine("toy", cipher_sequences(Toy(), IMAGE, seeds), 4, lambda _: None)
    assert not weak.passed


def test_sequences_take_a_fresh_key_each() -> None:
    seeds = Seeds(2)
    large = np.zeros((300, 300), dtype=np.uint16)
    source = cipher_sequences(WideBlock(), large, seeds)
    sequences = [next(source) for _ in range(3)]
    assert all(bits.size == 1_000_000 for bits in sequences)
    assert len({bits[:64].tobytes() for bits in sequences}) == 3
    small = cipher_sequences(WideBlock(), IMAGE, seeds)
    assert next(small).size == 1_000_000
