"""A worker that a bundle takes over: what it can read. It imports nothing that a worker must not load."""

import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from he_infer.errors import UsageError
from he_infer.server.workers import worker
from he_infer.server.workers.limits import WorkerConfig

SECRETS = ("signing.key", "audit.key", "metadata.sqlite3")
"""Files in the folder where the worker is started."""


def run_burglar(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Run a worker whose reader of bundles is taken over: it reads what it can, and says what it got."""
    data, home = Path.cwd(), Path(os.environ["HOME"])
    deeds: dict[str, Callable[[], Any]] = {name: (data / name).read_bytes for name in SECRETS}
    deeds |= {
        "the data folder": lambda: list(data.iterdir()),
        "the home folder": lambda: list(home.iterdir()),
        "a file in the home folder": (home / "notes.txt").read_bytes,
        "the bundle's folder": lambda: list(config.bundles[0].parent.iterdir()),
        "the bundle": config.bundles[0].read_bytes,
    }

    def burgle(*_: Any) -> None:
        got = []
        for name, deed in deeds.items():
            try:
                deed()
            except OSError:
                continue
            got.append(name)
        raise UsageError(f"It got: {', '.join(got)}.")

    worker.ModelHost = burgle  # type: ignore[assignment, misc]  # what takes a bundle over runs in its place
    worker.main(connection, config)
