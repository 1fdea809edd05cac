"""The leak experiments: rebuilt images, membership, and the files that the commands write."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from experiments.bundles import remove_shared_images, sample_by_class, split_in_halves
from experiments.cli import app
from experiments.leaks import members, rebuild
from experiments.records import records
from he_infer.head.layers import Head, Linear, Polynomial
from models.datasets import Split


def _images(count: int = 60, size: int = 16) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 1, (count, 1, size, size)).astype(np.float32)


# Rebuilding


def test_equal_images_score_perfect_likeness_and_mean_image_recognises_none() -> None:
    images = _images()
    whole = rebuild.measure_likeness(images, images)
    assert whole.psnr > 70
    assert whole.ssim == pytest.approx(1)
    assert whole.found == 1
    mean = rebuild.measure_likeness(images, images.mean(axis=0, keepdims=True).repeat(len(images), axis=0))
    assert mean.found <= 2 / len(images)
    assert mean.psnr < 15


def test_a_linear_view_is_inverted_and_an_unrelated_one_gives_the_mean() -> None:
    random = np.random.default_rng(2)
    images = random.uniform(0.2, 0.8, (300, 1, 12, 12)).astype(np.float32)
    views = images.reshape(300, -1) @ random.normal(size=(144, 160))
    inverted = rebuild.fit_ridge(views[:250], images[:250])(views[250:])
    assert rebuild.measure_likeness(images[250:], inverted).found == 1
    noise = random.normal(size=(300, 160))
    blind = rebuild.fit_ridge(noise[:250], images[:250])(noise[250:])
    mean = images[:250].mean(axis=0, keepdims=True).repeat(50, axis=0)
    blind_error, mean_error = (float(((made - images[250:]) ** 2).mean()) for made in (blind, mean))
    assert blind_error == pytest.approx(mean_error, rel=0.05)


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 18)])
def test_decoder_learns_and_a_seed_repeats_it(channels: int, size: int) -> None:
    random = np.random.default_rng(3)
    strength = random.uniform(0, 1, (160, 1, 1, 1)).astype(np.float32)
    images = np.broadcast_to(strength, (160, channels, size, size)).copy()
    views = np.concatenate([strength.reshape(160, 1), random.normal(size=(160, 3))], axis=1)
    twice = [rebuild.train_decoder(views, images, epochs=25, seed=5)(views[:10]) for _ in range(2)]
    assert np.array_equal(*twice)
    assert twice[0].shape == (10, channels, size, size)
    assert float(np.mean((twice[0] - images[:10]) ** 2)) < 0.5 * float(images[:10].var())


# Membership


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_auc_equals_scikit_learn_auc(inside: list[int], outside: list[int]) -> None:
    expected = roc_auc_score([1] * len(inside) + [0] * len(outside), inside + outside)
    assert members.compute_auc(np.array(inside, float), np.array(outside, float)) == pytest.approx(expected)


def test_informative_signal_gives_high_auc_and_random_signal_none() -> None:
    member = np.arange(400) < 200
    noise = np.random.default_rng(4).normal(size=400)
    told = members.infer_membership(noise + 4 * member, member, rounds=100)
    assert told.low > 0.9
    assert told.caught > 0.5
    blind = members.infer_membership(noise, member, rounds=100)
    assert blind.low < 0.5 < blind.high


def test_gradient_norm_equals_numerical_gradient() -> None:
    random = np.random.default_rng(5)
    layers = [(random.normal(size=(4, 6)), random.normal(size=4)), (random.normal(size=(3, 4)), random.normal(size=3))]
    square = Polynomial((0.2, -0.3, 0.7))

    def head(changed: list[tuple[np.ndarray, np.ndarray]]) -> Head:
        return Head((Linear(*changed[0]), square, Linear(*changed[1])))

    x, label = random.normal(size=(1, 6)), np.array([2])
    total = 0.0
    for index in range(2):
        for part in range(2):
            for place in np.ndindex(layers[index][part].shape):
                sides = []
                for step in (1e-6, -1e-6):
                    moved = [tuple(np.array(array) for array in layer) for layer in layers]
                    moved[index][part][place] += step
                    sides.append(-float(members.compute_loss_signal(head(moved).evaluate(x), label)[0]))
                total += ((sides[0] - sides[1]) / 2e-6) ** 2
    assert -float(members.compute_gradient_signal(head(layers), x, label)[0]) == pytest.approx(total**0.5, rel=1e-5)


def test_halves_share_no_image_and_keep_the_classes() -> None:
    random = np.random.default_rng(6)
    images = random.integers(0, 255, (60, 8, 8)).astype(np.uint8)
    images[30:40] = images[:10]
    split = Split(images, (np.arange(60) % 10 == 0).astype(np.int64))
    first, second = split_in_halves(split, random)
    assert len(first) + len(second) == 60
    assert not set(first.digests()) & set(second.digests())
    assert abs(int(first.labels.sum()) - int(second.labels.sum())) <= 2
    assert len(remove_shared_images(split, second)) == len(first)
    drawn = sample_by_class(split, np.array([5, 2]), random)
    assert np.bincount(drawn.labels).tolist() == [5, 2]


# The commands


def test_inversion_writes_figures_picture_and_record(small_set: Path, small_bundle: Path, tmp_path: Path) -> None:
    picture, figures, record = tmp_path / "i.png", tmp_path / "i.json", tmp_path / "r.jsonl"
    result = CliRunner().invoke(
        app,
        f"inversion --data {small_set} --bundle {small_bundle} --epochs 2 --figure {picture} --json {figures} "
        f"--record {record}",
    )
    assert result.exit_code == 0, result.output
    rebuilt = json.loads(figures.read_text(encoding="utf-8"))["rebuilt"]
    # Features of a network trained for a moment still show where the disc is; ciphertexts show nothing.
    assert rebuilt["linear map"]["psnr"] > rebuilt["mean image"]["psnr"] + 1
    assert rebuilt["ciphertext, linear map"]["psnr"] < rebuilt["ciphertext, mean image"]["psnr"] + 0.5
    (kept,) = records.read_records(record)
    assert kept.kind == "inversion"
    assert kept.figures["picture"]["sha256"] == hashlib.sha256(picture.read_bytes()).hexdigest()


def test_membership_of_a_bundle_is_measured(small_set: Path, small_bundle: Path, tmp_path: Path) -> None:
    figures = tmp_path / "m.json"
    result = CliRunner().invoke(
        app,
        f"membership --data {small_set} --bundle {small_bundle} --limit 50 --figure {tmp_path}/m.png --json {figures}",
    )
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["members"] == found["others"] == 50
    signals = found["signals"]
    assert signals["score, decrypted, hidden"]["auc"] == pytest.approx(signals["score, in clear"]["auc"], abs=0.02)
    assert all(one["low"] <= one["auc"] <= one["high"] for one in signals.values())


def test_missing_output_folder_is_refused_before_the_work(small_set: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inversion", "--data", str(small_set), "--json", str(tmp_path / "no" / "x.json")])
    assert result.exit_code == 2
    assert "does not exist" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("equivalent", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_chosen_images_break_the_controls_and_not_the_inner_cipher(equivalent: int, tmp_path: Path) -> None:
    figures = tmp_path / "c.json"
    command = f"chosen-images CT_small.dcm --keys 2 --equivalent-keys {equivalent}"
    result = CliRunner().invoke(app, f"{command} --figure {tmp_path}/c.png --json {figures}")
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text(encoding="utf-8"))
    broken = {(row["subject"].split(" (")[0], row["attack"]): row["broken"] for row in found["attacks"]}
    assert broken["toy", "four images"] == 2
    assert broken["version 1", "sign plane"] == broken["version 1", "seven images"] == 2
    assert not any(count for (subject, _), count in broken.items() if subject == "inner cipher")
