"""Starts the storage SCP in its own process, and restarts it when it ends."""

import subprocess
import sys
import threading
from dataclasses import replace
from types import TracebackType
from typing import Self

from he_infer.client.pacs.listener import ListenerSettings, to_json
from he_infer.errors import ArchiveUnreachable
from he_infer.machine import interrupts_held

_START_SECONDS = 30.0


class Listening:
    """A running storage SCP; `port` is known after entering the context.

    Raises:
        ArchiveUnreachable: the storage SCP does not start, for instance because the port is in use.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = settings.port

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id; 0 while no process runs."""
        return self._process.pid if self._process is not None else 0

    def keep_up(self) -> bool:
        """Restart the process if it has ended; returns whether it had ended.

        Raises:
            ArchiveUnreachable: the storage SCP does not start.
        """
        if self._process is not None and self._process.poll() is None:
            return False
        self.stop()
        self._start()
        return True

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        command = [sys.executable, "-m", "he_infer.client.pacs.listener"]
        with interrupts_held():
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own module
        if self._process.stdin is None or self._process.stdout is None:
            raise ArchiveUnreachable("The storage SCP has no connection to its parent.")
        self._process.stdin.write(to_json(replace(self._settings, port=self.port)))
        self._process.stdin.flush()
        silent = threading.Timer(_START_SECONDS, self._process.kill)
        silent.start()
        line = self._process.stdout.readline().decode("utf-8", "replace").strip()
        silent.cancel()
        word, _, rest = line.partition(" ")
        if word != "port":
            self.stop()
            raise ArchiveUnreachable(
                f"The storage SCP does not start on {self._settings.host}:{self.port}: {rest or 'it ended at once'}."
            )
        self.port = int(rest)
