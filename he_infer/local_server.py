"""Starts a server on a free loopback port, for the demo, the experiments and the tests.

It is the real server in a separate process, started as a user would start it. No server code is loaded here.
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from he_infer.ckks.engines.native.code_cache import default_folder
from he_infer.client.connection.connection import trust
from he_infer.errors import ServerError, ServerUnreachable

_READY_SECONDS = 300.0
"""A server's first start compiles its native engine: some 30 s of processor time."""
_STOP_SECONDS = 60.0


class LocalServer:
    """Starts `he-infer serve` and stops it.

    Args:
        bundles: bundle files to serve.
        data_dir: the server's data folder; made where it is missing. Its log is `server.log` in it.
        record_dir: where the server saves every body it receives and sends.
        token: a token to use, or None to have one made.
        ca_file: PEM file to check the server's certificate with, where the options give it one.
        options: further options of `he-infer serve`.

    `start` (or the context manager) sets `url`, `token` and `pid`.
    """

    def __init__(
        self,
        bundles: Sequence[Path],
        data_dir: Path,
        *,
        record_dir: Path | None = None,
        token: str | None = None,
        ca_file: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._bundles = list(bundles)
        self._options = list(options)
        self._record_dir = record_dir
        self._ca_file = ca_file
        self._process: subprocess.Popen[bytes] | None = None
        self.data_dir = data_dir
        self.log_path = data_dir / "server.log"
        self.url = ""
        self.token = token or ""
        self.ready_seconds = 0.0
        """Seconds from the start of the process to its first answer."""

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            ServerError: the server is not running.
        """
        if self._process is None:
            raise ServerError("The local server is not running; call start() first.")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            ServerError: the server ended at once; the message is the last line of its log.
            ServerUnreachable: it is not ready within five minutes.
        """
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        started = time.monotonic()
        # The token file and the port file are this process's own: they stay out of the server's data folder.
        with tempfile.TemporaryDirectory(prefix="he-infer-") as name:
            private = Path(name)
            port_file, token_file = private / "port", private / "token"
            if self.token:
                token_file.touch(mode=0o600)
                token_file.write_text(self.token, encoding="utf-8")
            command = [sys.executable, "-m", "he_infer", "serve", *map(str, self._bundles)]
            command += ["--data-dir", str(self.data_dir), "--host", "127.0.0.1", "--port", "0"]
            command += ["--code-dir", str(default_folder())]  # shared with this user's other processes
            command += ["--port-file", str(port_file), "--token-file", str(token_file)]
            # Whoever starts a local server has the model anyway: the limit against model extraction is lifted.
            command += ["--hidden-daily-queries", "1000000000", *self._options]
            if self._record_dir is not None:
                command += ["--record-dir", str(self._record_dir)]
            with self.log_path.open("ab") as log:
                self.log_path.chmod(0o600)
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            self._wait_for(port_file)
            scheme = "https" if self._ca_file else "http"
            self.url = f"{scheme}://127.0.0.1:{port_file.read_text(encoding='utf-8').strip()}"
            self.token = token_file.read_text(encoding="utf-8").strip()
            # The folder stays until the server answers: it flushes the folder to the disk after the port file is there.
            with httpx2.Client(trust_env=False, timeout=5.0, verify=trust(self._ca_file)) as http:
                http.get(f"{self.url}/healthz").raise_for_status()
        self.ready_seconds = time.monotonic() - started
        return self

    def stop(self) -> int:
        """Ask the server to finish its work and end; returns its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End the server at once, as a power cut or the kernel would; returns its exit status."""
        return self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _wait_for(self, port_file: Path) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not port_file.exists():
            if self._process is not None and self._process.poll() is not None:
                self._process = None
                raise ServerError(f"The server did not start: {self._last_words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerUnreachable(f"The server was not ready within {_READY_SECONDS:g} s; see {self.log_path}.")
            time.sleep(0.02)

    def _last_words(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        spoken = [line.removeprefix("error: ") for line in lines if line.strip()]
        return spoken[-1] if spoken else f"it ended without a message; see {self.log_path}."
