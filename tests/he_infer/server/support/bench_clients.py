"""Requests a second over HTTP with 1, 2, 4 and 8 clients, for a linear head and an MLP on each engine, two workers.

Each client is a process that sends the same ciphertexts again and again with a bare HTTP client, so that neither
encryption nor a library's work is part of it. All run on one machine and share its cores with the server: the ratios
say more than the figures.

Example: `python -m tests.he_infer.server.support.bench_clients --seconds 5`
"""

import argparse
import asyncio
import multiprocessing
import secrets
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from he_infer.ckks.engines.choice import EngineWish, choose_engine
from he_infer.ckks.engines.native.code_cache import default_folder
from he_infer.head.bundle_file import BundleFile
from he_infer.local_server import LocalServer
from he_infer.owner.publish import publish
from he_infer.wire import envelope as wire
from tests.he_infer.server.support.kit import client_of, full_size_bundle, write_linear
from tests.load.lean_http import LeanClient

CLIENTS = (1, 2, 4, 8)


def ask(
    server: tuple[str, str], asked: dict[str, str], parts: list[bytes], seconds: float, index: int, both: Any
) -> None:
    """Be one client: in each round that it takes part in, ask for so many seconds, and report the answers' number."""
    barrier, counts = both
    for clients in CLIENTS:
        barrier.wait()
        count = asyncio.run(count_answers(server, asked, parts, seconds)) if index < clients else 0
        counts.put((clients, count))
        barrier.wait()


async def count_answers(server: tuple[str, str], asked: dict[str, str], parts: list[bytes], seconds: float) -> int:
    """Send one request after another, and count the answers; a refusal is an error."""
    named = tuple((f"ct{index}", part) for index, part in enumerate(parts))
    http = LeanClient(*server)
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        header = {**asked, "nonce": secrets.token_hex(16), "time": int(time.time() * 1000)}
        body = wire.Envelope(wire.Kind.REQUEST, header, named).encode()
        answer = await http.post(f"/v1/models/{asked['model']}/classify", body, 60.0)
        if answer.status != 200:
            raise RuntimeError(f"The server answered {answer.status}.")
        count += 1
    http.close()
    return count


def measure(bundle: Path, folder: Path, engine: str, seconds: float) -> dict[int, float]:
    """Return requests a second by the number of clients."""
    context = multiprocessing.get_context("spawn")
    options = ["--workers", "2", "--engine", engine]
    with LocalServer([bundle], folder, options=options) as server, client_of(server) as client:
        parts = client.encrypt(np.zeros((1, client.plan.width)))
        barrier: Barrier = context.Barrier(max(CLIENTS) + 1)
        both = barrier, context.Queue()
        asked = {"model": client.model.id, "plan": client.plan.digest, "key_set": client.key_set}
        about = ((server.url, server.token), asked, parts, seconds)
        senders = [
            context.Process(target=ask, args=(*about, index, both), daemon=True) for index in range(max(CLIENTS))
        ]
        for sender in senders:
            sender.start()
        found = {}
        for clients in CLIENTS:
            barrier.wait()
            answered = [both[1].get() for _ in senders]
            assert {of for of, _ in answered} == {clients}
            found[clients] = sum(count for _, count in answered) / seconds
            barrier.wait()
        for sender in senders:
            sender.join()
    return found


def publish_for_native(bundle: Path) -> Path:
    """Publish a bundle as `he-infer publish --engine native` does; returns the server's part."""
    engine = choose_engine(EngineWish.NATIVE, default_folder(), lambda _: None)
    published = publish(BundleFile.load(bundle), Ed25519PrivateKey.generate(), batches=(1,), engine=engine)
    part = bundle.with_suffix(".server.hebundle")
    published.server.save(part)
    return part


def main() -> None:
    """Print one line for each head and engine."""
    parser = argparse.ArgumentParser(prog="python -m tests.he_infer.server.support.bench_clients")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="he-infer-bench-") as name:
        folder = Path(name)
        linear = write_linear(folder / "linear.hebundle", width=512, classes=10)
        mlp = full_size_bundle(folder / "mlp.hebundle")
        for title, bundle, engine in (
            ("512->10", linear, "seal"),
            ("512->10", linear, "native"),
            ("512->64->x^2->10", mlp, "seal"),
            ("512->64->x^2->10", mlp, "native"),
            ("512->64->x^2->10, plan for centred digits", publish_for_native(mlp), "native"),
        ):
            rates = measure(bundle, folder / f"{bundle.stem}-{engine}", engine, chosen.seconds)
            print(f"{title}, {engine}: " + ", ".join(f"{n}: {rate:.1f}" for n, rate in rates.items()), flush=True)


if __name__ == "__main__":
    main()
