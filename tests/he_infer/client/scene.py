"""A hospital's client: a published model's part, a key file, a token, and a running server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from he_infer.local_server import LocalServer
from tests.e2e.kit import WORDS, run, write_folder


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


@contextmanager
def make_scene(folder: Path) -> Iterator[Scene]:
    data = write_folder(folder / "shapes", count=20)
    run(
        "train", "--data", data, "--out", folder / "shapes.hebundle", "--width", 16, "--hidden", 4, "--epochs", 4,
        "--name", "shapes",
    )  # fmt: skip
    run(
        "publish", folder / "shapes.hebundle", "--to", folder / "parts", "--publishing-key", folder / "publishing.key",
        "--batch", 1, "--batch", 16, HE_INFER_PASSPHRASE=WORDS, HE_INFER_PUBLISHING_PASSPHRASE=WORDS,
    )  # fmt: skip
    token, key = folder / "cloud.token", folder / "hospital.key"
    model = folder / "parts" / "shapes.client.hebundle"
    server = LocalServer([folder / "parts" / "shapes.server.hebundle"], folder / "server", options=["--workers", "1"])
    with server:
        token.touch(mode=0o600)
        token.write_text(server.token)
        run(
            "keys", "new", key, "--bundle", model, "--url", server.url, "--token-file", token, HE_INFER_PASSPHRASE=WORDS
        )
        yield Scene(folder, model, key, token, server)
