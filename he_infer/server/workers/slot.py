"""A slot for one worker process: started from a fork server, with a pipe of its own, killed and replaced at will.

Workers share no lock or pipe, so that SIGKILL at any moment harms one task alone. Nothing that a worker sends is
unpickled.
"""

import multiprocessing
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from he_infer.errors import FormatError
from he_infer.machine import interrupts_held
from he_infer.server.workers import pipe
from he_infer.server.workers.limits import WorkerConfig
from he_infer.wire.refusals import Code, Refused

Reply = tuple[dict[str, Any], list[bytes]]
Entry = Callable[["Connection[bytes, bytes]", WorkerConfig], None]

_START_SECONDS = 120.0
_MAX_REPLY = 1 << 30

# Signals that a process's own code causes; SIGKILL comes from outside (an operator, the kernel's OOM).
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS})


class Died(Exception):
    """The worker ended without an answer; `crashed` where its own code brought it down."""

    def __init__(self, *, crashed: bool = False) -> None:
        self.crashed = crashed


class Overdue(Exception):
    """The worker was killed at its limit of time."""


class Slot:
    """A slot for one worker process, and the process in it at the moment."""

    def __init__(self, config: WorkerConfig, entry: Entry) -> None:
        self._config = config
        self._entry = entry
        self._context = multiprocessing.get_context("forkserver")
        self._process: BaseProcess | None = None
        self._ended = select.poll()  # has an event once the process has ended
        self._connection: Connection[bytes, bytes] | None = None
        self._deadline: float | None = None
        self._overdue = False
        self._lock = threading.Lock()
        self.hello: dict[str, Any] = {}

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def ensure(self) -> None:
        """Start a process where there is none alive.

        Raises:
            Died, Overdue: it ended before it was ready.
            Refused: it says why it cannot work (a bundle that it cannot read, say).
        """
        if self._process is not None and self._connection is not None and not self._ended.poll(0):
            return
        self.stop()
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=self._entry, args=(theirs, self._config), daemon=True)
        try:
            with interrupts_held():
                process.start()
        except (OSError, EOFError) as error:  # the fork server is gone; the next attempt starts another
            ours.close()
            raise Died from error
        finally:
            theirs.close()
        with self._lock:
            self._process, self._connection = process, ours
        self._ended = select.poll()
        self._ended.register(process.sentinel, select.POLLIN)
        hello, _ = self.exchange(None, (), _START_SECONDS)
        if "error" in hello:
            self.stop()
            raise Refused(Code.INTERNAL, str(hello["message"]))
        self.hello = hello

    def check_deadline(self, now: float) -> None:
        """Kill the process where it is past its deadline; called from the pool's watchdog."""
        with self._lock:
            if self._deadline is not None and now > self._deadline and self._process is not None:
                self._overdue = True
                self._process.kill()

    def stop(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            process, self._process = self._process, None
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if process is not None:
            _end(process)
            process.close()

    def exchange(self, header: Mapping[str, Any] | None, parts: Sequence[bytes], seconds: float) -> Reply:
        """Send one message, where there is one, and wait for an answer, at most `seconds`."""
        connection, process = self._connection, self._process
        if connection is None or process is None:
            raise Died
        with self._lock:
            self._overdue = False
            self._deadline = time.monotonic() + seconds
        try:
            if header is not None:
                pipe.send(connection, header, parts)
            return pipe.receive(connection, _MAX_REPLY)
        except (EOFError, OSError, FormatError) as error:
            _end(process)
            exitcode = process.exitcode
            # Forgotten at once: its sentinel may not show the end yet, although the exit code has come through it.
            self.stop()
            if self._overdue or exitcode == -signal.SIGXCPU:
                raise Overdue from error
            raise Died(crashed=-(exitcode or 0) in _CRASHES) from error
        finally:
            with self._lock:
                self._deadline = None


def _end(process: BaseProcess) -> None:
    """Kill and reap. Asking first whether it lives keeps a signal from reaching a later process of the same id."""
    if process.is_alive():
        process.kill()
    process.join()
