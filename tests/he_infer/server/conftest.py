"""A small bundle, and a real server of it in a process of its own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from he_infer.client.connection.session import Session
from he_infer.local_server import LocalServer
from tests.he_infer.server.support import services
from tests.he_infer.server.support.kit import Client, client_of, write_bundle


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
    with client_of(server) as connected:
        yield connected


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(7).uniform(-1, 1, (1, 32))


@pytest.fixture(scope="session")
def postgres() -> Iterator[services.Postgres]:
    programs = services.postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with services.postgres(programs) as running:
        yield running


@pytest.fixture(scope="session")
def s3() -> Iterator[services.S3]:
    if not services.moto_is_installed():
        pytest.skip("moto's server is not installed (pip install 'moto[s3]' flask flask-cors)")
    with services.s3() as running:
        previous = {name: os.environ.get(name) for name in running.environment}
        os.environ.update(running.environment)
        yield running
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a new database of each kind, SQLite and PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'm.sqlite3'}"
    return str(request.getfixturevalue("postgres").database())


@pytest.fixture(params=["folder", "s3"])
def blob_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Place of a new object store of each kind, folder and S3."""
    if request.param == "folder":
        return tmp_path / "blobs"
    return str(request.getfixturevalue("s3").bucket())
