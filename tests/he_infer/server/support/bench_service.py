"""Processor time of the server's own process for a request, without the workers: linear and MLP.

Example: `python -m tests.he_infer.server.support.bench_service --requests 200`
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np

from he_infer.local_server import LocalServer
from tests.he_infer.server.support.kit import client_of, full_size_bundle, write_linear

BLOCKS = 5


def processor_seconds(pid: int) -> float:
    """Processor time of a process's threads as the scheduler counts it (nanoseconds), its children's not."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def measure(bundle: Path, folder: Path, requests: int) -> float:
    """Median over blocks of the milliseconds of processor time a request."""
    with LocalServer([bundle], folder, options=["--workers", "1"]) as server, client_of(server) as client:
        question = client.encrypt(np.zeros((1, client.plan.width)))

        def ask(count: int) -> float:
            before = processor_seconds(server.pid)
            for _ in range(count):
                client.session.classify(client.model, client.plan, client.key_set, question)
            return 1000 * (processor_seconds(server.pid) - before) / count

        ask(20)
        return statistics.median(ask(requests // BLOCKS) for _ in range(BLOCKS))


def main() -> None:
    """Print one line for each head."""
    parser = argparse.ArgumentParser(prog="python -m tests.he_infer.server.support.bench_service")
    parser.add_argument("--requests", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="he-infer-bench-") as name:
        folder = Path(name)
        linear = write_linear(folder / "linear.hebundle", width=512, classes=2)
        for title, bundle in (
            ("linear 512 -> 2", linear),
            ("MLP 512 -> 64 -> x^2 -> 10", full_size_bundle(folder / "m.hebundle")),
        ):
            print(f"{title}: {measure(bundle, folder / bundle.stem, chosen.requests):.2f} ms a request", flush=True)


if __name__ == "__main__":
    main()
