"""Canaries: their rows, their values, and their rate of detecting a cheating server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from he_infer.client.classifier import EncryptedClassifier
from he_infer.client.connection.session import Session
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.verify.canaries import Canaries, canaries_like, detection, places, wanted
from he_infer.client.verify.receipts import check
from he_infer.errors import ShapeError, UsageError, WrongAnswer
from he_infer.head.bundle import HeadBundle
from he_infer.head.layers import Head
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from he_infer.server.main import SETTINGS_VARIABLE
from he_infer.server.settings import load_settings
from tests.he_infer.server.support.kit import write_bundle

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("canaries") / "toy.hebundle")


@pytest.fixture(scope="module")
def head(bundle: Path) -> Head:
    return HeadBundle.load(bundle).head


@contextmanager
def cheating_server(bundle: Path, folder: Path, share: float, seed: int) -> Iterator[tuple[str, str]]:
    """Address and token of a server that cheats on a share of its answers."""
    folder.mkdir(mode=0o700)
    token, port = folder / "token", folder / "port"
    token.write_text(tokens.new_token().text)
    settings = load_settings(
        None, bundles=(bundle,), data_dir=folder / "data", port=0, port_file=port, token_file=token, workers=1
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.he_infer.server.support.cheating", str(share), str(seed)],
            cwd=ROOT,
            env={**os.environ, SETTINGS_VARIABLE: settings.model_dump_json()},
            stdout=log,
            stderr=log,
        )
    try:
        while not port.exists():
            assert process.poll() is None, (folder / "log").read_text()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05)
        yield f"http://127.0.0.1:{port.read_text().strip()}", token.read_text()
    finally:
        process.terminate()
        process.wait(60)


def caught(url: str, token: str, head: Head, *, runs: int, images: int, count: int, seed: int) -> int:
    """Number of runs in which a canary detected the server."""
    rng = np.random.default_rng(seed)
    evidence = []
    with Session(url, token) as session:
        (model,) = session.models()
        plan = model.plans[0]
        classifier = EncryptedClassifier(session, model, plan, SecretKey.generate(plan.parameters))
        classifier.register()
        classifier.scores(rng.uniform(-0.8, 0.8, (1, 32)))  # so that the server has an answer to repeat
        for _ in range(runs):
            features = rng.uniform(-0.8, 0.8, (images, 32))
            canaries = canaries_like(features, head, count, model.input_bound, rng)
            try:
                classifier.scores(features, canaries=canaries, rng=rng)
            except WrongAnswer as wrong:
                evidence.append(wrong.receipts)
    assert all(len(receipts) == images + count for receipts in evidence)
    for one in evidence[0]:  # its receipts state the claimed computation
        assert check(one["receipt"], one["signature"], one["server_key"]).model == model.id
    return len(evidence)


def hunt(bundle: Path, head: Head, folder: Path, *, share: float, runs: int, images: int, count: int) -> None:
    with cheating_server(bundle, folder, share, seed=41) as (url, token):
        found = caught(url, token, head, runs=runs, images=images, count=count, seed=42)
    stated = detection(share, count)
    test = binomtest(found, runs, stated)
    print(
        f"cheating on {share:.0%} of the answers, {count} canaries among {images} images: found out in {found} of "
        f"{runs} runs ({found / runs:.3f}); stated {stated:.3f}; two-sided p {test.pvalue:.3f}"
    )
    assert test.pvalue > 1e-3


def test_cheating_server_is_detected_at_stated_rate(bundle: Path, head: Head, tmp_path: Path) -> None:
    hunt(bundle, head, tmp_path / "cheat", share=0.25, runs=24, images=2, count=2)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "count"), [(0.05, 4), (0.1, 6), (0.3, 3), (1.0, 1)])
def test_cheating_server_is_detected_at_stated_rate_over_many_runs(
    bundle: Path, head: Head, tmp_path: Path, share: float, count: int
) -> None:
    hunt(bundle, head, tmp_path / "cheat", share=share, runs=160 if share < 1 else 20, images=1, count=count)


def test_an_honest_server_is_never_accused(bundle: Path, head: Head, tmp_path: Path) -> None:
    options = ["--workers", "1"]
    features = np.random.default_rng(3).uniform(-0.9, 0.9, (11, 32))
    with (
        LocalServer([bundle], tmp_path / "data", options=options) as server,
        Session(server.url, server.token) as session,
    ):
        (model,) = session.models()
        for plan in model.plans:
            classifier = EncryptedClassifier(session, model, plan, SecretKey.generate(plan.parameters))
            classifier.register()
            canaries = canaries_like(features, head, 5, model.input_bound)
            scores = classifier.scores(features, canaries=canaries)
            assert np.abs(scores.rounded - head.evaluate(features)).max() < 2e-3
            requests = -(-16 // plan.batch)
            assert len(scores.receipts) == len(scores.requests) == requests
            assert scores.canaries is not None
            assert scores.canaries.requests == min(5, requests)
            assert len(scores.request_of) == 11
            assert sum(request.images for request in scores.requests) == 16


def test_with_one_image_a_request_all_rows_are_equally_likely() -> None:
    rng = np.random.default_rng(5)
    counts = np.zeros(8)
    for _ in range(4000):
        rows = places(6, 2, 1, rng)
        assert len(set(rows.tolist())) == 2
        counts[rows] += 1
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("images", "canaries", "batch"), [(1, 1, 1), (10, 3, 4), (10, 9, 4), (1, 7, 64), (130, 2, 64)])
def test_canaries_spread_over_the_requests(images: int, canaries: int, batch: int) -> None:
    for seed in range(20):
        rows = places(images, canaries, batch, np.random.default_rng(seed))
        assert len(set(rows.tolist())) == canaries
        assert rows.min() >= 0
        assert rows.max() < images + canaries
        requests = -(-(images + canaries) // batch)
        assert len(set((rows // batch).tolist())) == min(canaries, requests)


def test_canaries_are_plausible_fresh_and_within_the_bound(head: Head) -> None:
    features = np.random.default_rng(6).normal(0.2, 0.3, (40, 32)).clip(-1, 1)
    one, two = (canaries_like(features, head, 500, 1.0) for _ in range(2))
    assert np.abs(one.features).max() <= 1
    assert not (one.features == two.features).all(axis=1).any()
    assert np.abs(one.features.mean(axis=0) - features.mean(axis=0)).max() < 0.1
    assert np.allclose(one.expected, head.evaluate(one.features))


def test_detection_probability_follows_formula() -> None:
    assert detection(0, 10) == 0
    assert detection(1, 1) == 1
    assert detection(0.1, 22) == pytest.approx(1 - 0.9**22)
    with pytest.raises(UsageError):
        detection(1.5, 1)


def test_invalid_rates_and_shapes_are_refused() -> None:
    assert [wanted(10, rate) for rate in (0, 0.1, 0.11, 1)] == [0, 1, 2, 10]
    assert wanted(1, 0.01) == 1
    with pytest.raises(UsageError, match="0 to 10"):
        wanted(10, -0.1)
    with pytest.raises(ShapeError):
        Canaries(np.zeros((2, 4)), np.zeros((3, 2)))
