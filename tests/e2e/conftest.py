"""Fixtures of the end-to-end tests: a trained bundle, a server that serves it, and a client's key."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from he_infer.local_server import LocalServer
from tests.e2e.kit import WORDS, run, write_folder


@dataclass(frozen=True)
class Setup:
    """A client's files, and the server's address."""

    data: Path
    whole: Path
    bundle: Path
    """The client's part."""
    key: Path
    token: Path
    url: str

    @property
    def options(self) -> tuple[object, ...]:
        return ("--bundle", self.bundle, "--key", self.key, "--token-file", self.token, "--url", self.url)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of images and the bundle trained on it."""
    folder = tmp_path_factory.mktemp("e2e")
    data = write_folder(folder / "shapes")
    run("train", "--data", data, "--out", folder / "shapes.hebundle", "--width", 32, "--hidden", 8)
    return data, folder / "shapes.hebundle"


@pytest.fixture(scope="session")
def client(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    data, bundle = trained
    folder = tmp_path_factory.mktemp("client")
    token, key = folder / "cloud.token", folder / "hospital.key"
    run(
        *("publish", bundle, "--to", folder / "published", "--batch", 1, "--batch", 16),
        *("--publishing-key", folder / "publishing.key"),
        HE_INFER_PASSPHRASE=WORDS,
    )
    part, served = (folder / "published" / f"shapes.{name}.hebundle" for name in ("client", "server"))
    with LocalServer([served], folder / "server", options=["--workers", "1"]) as server:
        token.touch(mode=0o600)
        token.write_text(server.token)
        where = ("--url", server.url, "--token-file", token)
        run("keys", "new", key, "--bundle", part, *where, HE_INFER_PASSPHRASE=WORDS)
        yield Setup(data, bundle, part, key, token, server.url)
