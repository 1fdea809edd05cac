"""A bundle whose last convolution block is its head, used through a real server."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from he_infer.head.convolution import Convolution
from he_infer.head.layers import Head, Linear, Polynomial
from he_infer.local_server import LocalServer
from models.bundle import Bundle
from models.extractors.cnn import Cnn, CnnConfig
from models.extractors.export import export
from models.guard import Guard
from models.images.load import load_image
from models.images.preprocessing import Preprocessing
from tests.he_infer.client.imaging import small_images
from tests.he_infer.server.test_commands import he_infer

WORDS = "correct horse battery staple"


def conv_bundle(path: Path) -> Bundle:
    """Two maps of 8 x 8 from a network of one stage, and a head of convolution, x^2 and three classes."""
    random = np.random.default_rng(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = CnnConfig(in_channels=1, size=24, width=128, channels=(8, 16), bound=1.0, map_side=8)
        extractor = Cnn(config).eval()
    first = Convolution(random.normal(0, 0.3, (4, 2, 3, 3)), random.normal(0, 0.1, 4), (2, 8, 8), padding=1)
    last = Linear(random.normal(0, 0.2, (3, first.outputs)), random.normal(0, 0.1, 3))
    bundle = Bundle(
        name="Small tail",
        classes=("nothing of note", "ground-glass opacity", "consolidation"),
        preprocessing=Preprocessing.plain(24, 1),
        extractor=export(extractor, channels=1, size=24),
        head=Head((first, Polynomial((0.0, 0.0, 1.0)), last)),
        input_bound=1.0,
    )
    bundle.save(path)
    return bundle


def test_images_are_classified_as_in_clear(tmp_path: Path) -> None:
    path, out, token = tmp_path / "tail.hebundle", tmp_path / "out.json", tmp_path / "token"
    bundle = conv_bundle(path)
    images = small_images(tmp_path / "scans", 2)
    with LocalServer([path], tmp_path / "server", options=["--workers", "1"]) as server:
        token.touch(mode=0o600)
        token.write_text(server.token)
        there = ["--url", server.url, "--token-file", token]
        he_infer("keys", "new", tmp_path / "k.key", "--bundle", path, *there, HE_INFER_PASSPHRASE=WORDS)
        given = ["--bundle", path, "--key", tmp_path / "k.key", *there, "--json", out]
        he_infer("classify", *images, *given, HE_INFER_PASSPHRASE=WORDS)
        rows = json.loads(out.read_text())["images"]
        # The same model with a guard that knows the first image alone.
        known = bundle.features([load_image(images[0])])[0]
        variances = np.array([1e-6, 1e-6], dtype=np.float32)
        guard = Guard(known, np.eye(1, 128, dtype=np.float32), variances, 1.0, 0.01, 100)
        replace(bundle, guard=guard).save(path)
        he_infer("classify", *images, *given, HE_INFER_PASSPHRASE=WORDS, status=3)
        guarded = json.loads(out.read_text())["images"]
        he_infer("classify", *images, *given, "--even-if-unlike", HE_INFER_PASSPHRASE=WORDS)
        shown = json.loads(out.read_text())["images"]
    assert [row["label"] for row in guarded] == [rows[0]["label"], None]
    assert "Not this model's kind" in guarded[1]["refusal"]
    assert [row["label"] for row in shown] == [row["label"] for row in rows]
    clear = bundle.scores(bundle.features([load_image(image) for image in images]))
    assert [row["label"] for row in rows] == [bundle.classes[label] for label in clear.argmax(axis=1)]
    expected = bundle.probabilities(clear).max(axis=1)
    np.testing.assert_allclose([row["probability"] for row in rows], expected, atol=2e-3)
