"""Canary questions of a run: a cheating server is detected at the stated rate, an honest one is never accused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scipy.stats import binomtest

from he_infer import ArrayImage, Client
from he_infer.client.key_making import make_key_file
from he_infer.client.verify.canaries import detection
from he_infer.client.verify.receipts import check
from he_infer.errors import UsageError, WrongAnswer
from he_infer.head.bundle_file import BundleFile
from he_infer.local_server import LocalServer
from he_infer.owner.publish import publish
from he_infer.server import tokens
from he_infer.server.main import SETTINGS_VARIABLE
from he_infer.server.settings import load_settings
from models.bundle import Bundle
from tests.he_infer.client.imaging import SIDE, small_bundle

ROOT = Path(__file__).parents[4]
WORDS = "correct horse battery staple"


@dataclass(frozen=True)
class Parts:
    """A published model."""

    bundle: Bundle
    client: Path
    server: Path


def publish_parts(folder: Path, *batches: int) -> Parts:
    bundle = small_bundle(folder / "small.hebundle")
    published = publish(BundleFile.load(folder / "small.hebundle"), Ed25519PrivateKey.generate(), batches=batches)
    files = [folder / f"small.{kind}.hebundle" for kind in ("client", "server")]
    published.client.save(files[0])
    published.server.save(files[1])
    return Parts(bundle, *files)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A model with a plan for one image a request: every request is one question or one image."""
    return publish_parts(tmp_path_factory.mktemp("single"), 1)


def draw_images(count: int, rng: np.random.Generator) -> list[ArrayImage]:
    return [
        ArrayImage(f"noise {number}", rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)) for number in range(count)
    ]


@contextmanager
def open_client(url: str, token: str, parts: Parts, key: Path, canaries: float) -> Iterator[Client]:
    make_key_file(key, WORDS, server_url=url, model=parts.client, token=token)
    with Client(
        url, model=parts.client, key=key, passphrase=WORDS, token=token, canaries=canaries, in_flight=1, patience=1.0
    ) as client:
        yield client


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


def caught(client: Client, *, runs: int, images: int, seed: int) -> int:
    """Number of runs in which a canary question detected the server."""
    rng = np.random.default_rng(seed)
    evidence = []
    for _ in range(runs):
        try:
            client.classify(draw_images(images, rng))
        except WrongAnswer as wrong:
            evidence.append(wrong.receipts)
    for one in evidence[0]:  # its receipts state the claimed computation
        assert check(one["receipt"], one["signature"], one["server_key"]).model == client.model.id
    return len(evidence)


def hunt(parts: Parts, folder: Path, *, share: float, runs: int, count: int) -> None:
    """Runs of `count` - 1 images with one question each, and one question before the first image."""
    with (
        cheating_server(parts.server, folder, share, seed=41) as (url, token),
        open_client(url, token, parts, folder / "hospital.key", 1.0) as client,
    ):
        found = caught(client, runs=runs, images=count - 1, seed=42)
    stated = detection(share, count)
    test = binomtest(found, runs, stated)
    print(
        f"cheating on {share:.0%} of the answers, {count} canaries: found out in {found} of "
        f"{runs} runs ({found / runs:.3f}); stated {stated:.3f}; two-sided p {test.pvalue:.3f}"
    )
    assert test.pvalue > 1e-3


def test_cheating_server_is_detected_at_stated_rate(single: Parts, tmp_path: Path) -> None:
    hunt(single, tmp_path / "cheat", share=0.25, runs=24, count=3)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "count"), [(0.05, 4), (0.1, 6), (0.3, 3), (0.9, 2)])
def test_cheating_server_is_detected_at_stated_rate_over_many_runs(
    single: Parts, tmp_path: Path, share: float, count: int
) -> None:
    hunt(single, tmp_path / "cheat", share=share, runs=160 if share < 0.9 else 20, count=count)


def test_an_honest_server_is_never_accused(tmp_path: Path) -> None:
    parts = publish_parts(tmp_path, 1, 16)
    images = draw_images(11, np.random.default_rng(3))
    scores = parts.bundle.scores(parts.bundle.features([image.pixels for image in images]))
    with (
        LocalServer([parts.server], tmp_path / "data", options=["--workers", "1"]) as server,
        open_client(server.url, server.token, parts, tmp_path / "hospital.key", 0.5) as client,
    ):
        for few in (images[:1], images):
            run = client.start(few)
            results = list(run)
            assert [result.label for result in results] == [
                parts.bundle.classes[index] for index in scores[: len(few)].argmax(axis=1)
            ]
            assert run.report.canaries >= 1
            assert len(run.report.receipts) == run.report.requests == len(run.report.server_seconds)


def test_detection_probability_follows_formula() -> None:
    assert detection(0, 10) == 0
    assert detection(1, 1) == 1
    assert detection(0.1, 22) == pytest.approx(1 - 0.9**22)
    with pytest.raises(UsageError):
        detection(1.5, 1)
