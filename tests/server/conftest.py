"""A small bundle, and a real server of it in a process of its own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from he_infer.client.local_server import LocalServer
from he_infer.client.session import Session
from tests.server.kit import Client

WIDTH, HIDDEN, CLASSES = 32, 8, 3


def write_bundle(
    path: Path, *, name: str = "Toy Chest", seed: int = 1, policy: str = "hidden", version: int = 1
) -> Path:
    """A bundle of a random head 32 -> 8 -> x^2 -> 3, without an extractor."""
    rng = np.random.default_rng(seed)
    tensors = {
        "head.0.weight": rng.normal(0, 0.2, (HIDDEN, WIDTH)),
        "head.0.bias": rng.normal(0, 0.1, HIDDEN),
        "head.2.weight": rng.normal(0, 0.3, (CLASSES, HIDDEN)),
        "head.2.bias": rng.normal(0, 0.1, CLASSES),
    }
    described = {
        "format": "he-infer-bundle",
        "version": version,
        "name": name,
        "classes": ["normal", "benign", "malignant"],
        "policy": policy,
        "input_bound": 1.0,
        "head": [
            {"kind": "linear", "weight": "head.0.weight", "bias": "head.0.bias"},
            {"kind": "polynomial", "coefficients": [0.0, 0.0, 1.0]},
            {"kind": "linear", "weight": "head.2.weight", "bias": "head.2.bias"},
        ],
    }
    save_file(tensors, path, metadata={"he_infer_bundle": json.dumps(described)})
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "toy.hebundle")


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer([bundle], tmp_path_factory.mktemp("server") / "data", options=["--workers", "1"]) as running:
        yield running


@pytest.fixture
def session(server: LocalServer) -> Iterator[Session]:
    with Session(server.url, server.token) as opened:
        yield opened


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    return write_bundle


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Iterator[Client]:
    with Session(server.url, server.token) as session:
        yield Client(server, session, server.token)


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(7).uniform(-1, 1, (1, 32))
