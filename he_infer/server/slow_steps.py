"""Says in the log what a server's start waits for, where a step takes long."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

PATIENCE_SECONDS = 2.0
"""Seconds for which a step of the start may last before a line says so."""


@contextmanager
def say_if_slow(what: str, seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Log one line where the block takes longer than `seconds`.

    Args:
        what: what the start waits for, such as "the database".
        seconds: how long nothing is said.
    """
    log = structlog.get_logger("he_infer.server")
    timer = threading.Timer(seconds, log.info, ("starting",), {"note": f"waiting for {what}"})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
