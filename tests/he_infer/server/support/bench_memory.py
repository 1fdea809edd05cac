"""Memory of a server's processes with each engine: two workers, one client, 512 -> 64 -> x^2 -> 10.

Shared pages are counted once (Pss). Example: `python -m tests.he_infer.server.support.bench_memory`
"""

import tempfile
from pathlib import Path

import numpy as np

from he_infer.local_server import LocalServer
from tests.he_infer.server.support.kit import client_of, full_size_bundle
from tests.he_infer.server.support.processes import held_bytes


def measure(bundle: Path, folder: Path, engine: str) -> int:
    """Bytes that a server and its workers hold after ten requests."""
    options = ["--workers", "2", "--engine", engine]
    with LocalServer([bundle], folder, options=options) as server, client_of(server) as client:
        features = np.random.default_rng(2).uniform(-1, 1, (1, client.plan.width))
        for _ in range(10):
            client.scores(features)
        return held_bytes(server.pid)


def main() -> None:
    """Print one line for each engine."""
    with tempfile.TemporaryDirectory(prefix="he-infer-bench-") as name:
        bundle = full_size_bundle(Path(name) / "full.hebundle")
        for engine in ("seal", "native"):
            print(f"{engine}: {measure(bundle, Path(name) / engine, engine) / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
