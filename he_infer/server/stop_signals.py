"""SIGTERM and SIGINT from the first moment on: a start is broken off in one line, a running server is asked to finish.

Imports nothing but the standard library's smallest parts, so that it is in place before anything slow is loaded.
"""

import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """What the two signals do to this process."""

    def __init__(self) -> None:
        self._received: str | None = None
        self._finish: Callable[[], None] | None = None

    def install(self) -> None:
        """Take both signals from now on, those included that were held back since before this program was loaded."""
        for number in SIGNALS:
            signal.signal(number, self._take)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def check(self) -> None:
        """End the start here where a signal came and what it raised was swallowed on its way.

        Raises:
            SystemExit: with one line for the operator.
        """
        if self._received is not None:
            raise SystemExit(f"error: stopped by {self._received} before the server was ready.")

    def call_instead(self, finish: Callable[[], None]) -> None:
        """From now on a signal calls this, and raises nothing."""
        self._finish = finish
        self.check()

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._finish is not None:
            self._finish()
            return
        first = self._received is None
        self._received = signal.Signals(number).name
        if first:  # a second one must not break into the clearing up that the first began
            self.check()


def hold_back() -> None:
    """Keep both signals waiting; a program that replaces this process inherits that, and takes them when it can."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
