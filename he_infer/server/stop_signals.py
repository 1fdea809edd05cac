"""Handles SIGTERM and SIGINT: a start ends with a one-line error, a running server finishes its requests.

Imports nothing but the standard library's smallest parts, so that it is in place before anything slow is loaded.
"""

import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Handler of both signals in this process."""

    def __init__(self) -> None:
        self._received: str | None = None
        self._finish: Callable[[], None] | None = None

    def install(self) -> None:
        """Handle both signals from now on, including those that `hold_back` kept pending."""
        for number in SIGNALS:
            signal.signal(number, self._take)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def check(self) -> None:
        """End the start where a signal came and its exception was swallowed by a caller.

        Raises:
            SystemExit: with one line for the operator.
        """
        if self._received is not None:
            raise SystemExit(f"error: stopped by {self._received} before the server was ready.")

    def call_instead(self, finish: Callable[[], None]) -> None:
        """Call `finish` at a signal from now on, instead of raising."""
        self._finish = finish
        self.check()

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._finish is not None:
            self._finish()
            return
        first = self._received is None
        self._received = signal.Signals(number).name
        if first:  # a second signal must not interrupt the cleanup that the first began
            self.check()


def hold_back() -> None:
    """Block both signals; a program that replaces this process inherits the block and handles them once it is ready."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
