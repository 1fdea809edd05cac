"""Saves every body that the server receives and sends, byte for byte.

This is an aid for demonstrations and audits, off unless the operator names a folder. The bodies are envelopes and
sealed objects; the bearer tokens travel in a header and are not saved.
"""

import itertools
import os
from pathlib import Path

_DIRECTIONS = ("received", "sent")


class Recorder:
    """Writes bodies to `<folder>/<number>-<what>-<received|sent>.bin`.

    Args:
        folder: made with mode 0700 where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._numbers = itertools.count(1)

    def next_number(self) -> int:
        """Return a new number for one exchange."""
        return next(self._numbers)

    def save(self, number: int, what: str, received: bytes | None, sent: bytes | None) -> None:
        """Save the two bodies of one exchange, as far as there are any."""
        for direction, body in zip(_DIRECTIONS, (received, sent), strict=True):
            if body:
                path = self._folder / f"{number:06d}-{what}-{direction}.bin"
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(body)
