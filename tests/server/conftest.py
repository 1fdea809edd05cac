"""A small bundle, and a real server of it in a process of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from he_infer.client.local_server import LocalServer
from he_infer.client.session import Session
from tests.server.kit import Client, write_bundle


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
