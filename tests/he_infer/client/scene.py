"""A hospital's client: a published model's part, a key file, a token, and a running server."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from he_infer.local_server import LocalServer
from tests.e2e.kit import WORDS, run, write_dicom_table

PARTS_VARIABLE = "TEST_SCENE_PARTS"
"""Environment variable that names the published model's folder for a test process that another one starts."""


@dataclass
class Scene:
    """A client's files and its server."""

    folder: Path
    model: Path
    key: Path
    token: Path
    server: LocalServer

    @property
    def options(self) -> list[str]:
        return [
            "--bundle", str(self.model), "--key", str(self.key), "--token-file", str(self.token), "--url",
            self.server.url,
        ]  # fmt: skip

    def stop_server(self) -> None:
        """End the server at once."""
        self.server.kill()

    def start_server(self) -> None:
        """Start the server again on the same port."""
        port = self.server.url.rpartition(":")[2]
        if "--port" not in self.server._options:
            self.server._options += ["--port", port]
        self.server.start()
        assert self.server.url.endswith(f":{port}")


def publish_model(folder: Path, *, data: Path | None = None, name: str = "shapes", width: int = 16) -> Path:
    """Train a model on CT slices with discs and bars, or on other data, and publish it; returns its parts' folder.

    Processes that are given the same folder share one model: the first one makes it. Training takes most of the time of
    a scene.
    """
    folder.mkdir(exist_ok=True)
    parts = folder / "parts"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            given = data or write_dicom_table(folder / "shapes", patients=10)
            run(
                "train", "--data", given, "--out", folder / f"{name}.hebundle", "--width", width, "--hidden", 4,
                "--epochs", 4, "--name", name,
            )  # fmt: skip
            run(
                "publish", folder / f"{name}.hebundle", "--to", parts, "--publishing-key", folder / "publishing.key",
                "--batch", 1, "--batch", 16, HE_INFER_PASSPHRASE=WORDS, HE_INFER_PUBLISHING_PASSPHRASE=WORDS,
            )  # fmt: skip
            (folder / "made").touch()
    return parts


def share_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish the model that all test processes of one run share."""
    if given := os.environ.get(PARTS_VARIABLE):
        return Path(given)
    own = tmp_path_factory.getbasetemp()
    return publish_model((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "scene-model")


@contextmanager
def make_scene(folder: Path, parts: Path) -> Iterator[Scene]:
    """Start a server with the published model, and make a client's key file and token.

    Args:
        folder: an empty folder.
        parts: the folder of the model's two parts.
    """
    token, key = folder / "cloud.token", folder / "hospital.key"
    (model,), (served,) = parts.glob("*.client.hebundle"), parts.glob("*.server.hebundle")
    server = LocalServer([served], folder / "server", options=["--workers", "1"])
    with server:
        token.touch(mode=0o600)
        token.write_text(server.token)
        run(
            "keys", "new", key, "--bundle", model, "--url", server.url, "--token-file", token, HE_INFER_PASSPHRASE=WORDS
        )
        yield Scene(folder, model, key, token, server)
