"""Measures the memory and disk that each further model and client costs a server.

    python -m tests.he_infer.server.support.bench_sizes

Prints bytes of a server with one worker as models and clients are added. Not a test: no figure passes or fails.
"""

import tempfile
from pathlib import Path

import numpy as np

from he_infer.ckks.packing import pack
from he_infer.client.connection.session import Session
from he_infer.client.keys.secret_key import SecretKey
from he_infer.local_server import LocalServer
from he_infer.server.tokens import Scope
from he_infer.wire.key_set import new_key_set
from tests.he_infer.server.support.kit import add_token, full_size_bundle
from tests.he_infer.server.support.processes import held_bytes

MODELS, CLIENTS = 2, 3


def use(server: LocalServer, token: str) -> int:
    """Register keys for every model's plan and classify once with each; returns the bytes of the keys."""
    size = 0
    with Session(server.url, token) as session:
        registered: dict[str, SecretKey] = {}
        key_set = new_key_set()
        for model in session.models():
            plan = model.plans[0]
            if plan.digest not in registered:
                registered[plan.digest] = secret = SecretKey.generate(plan.parameters)
                size += session.register(plan, key_set, secret.evaluation_keys(plan)).bytes
            secret = registered[plan.digest]
            for _ in range(3):
                features = pack(plan, np.zeros((1, plan.width)))
                session.classify(model, plan, key_set, secret.encrypt(features, plan.input_scale))
    return size


def main() -> None:
    """Run all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = [full_size_bundle(folder / f"{seed}.hebundle", seed) for seed in range(1, MODELS + 1)]
        before = 0
        for count in range(1, MODELS + 1):
            with LocalServer(bundles[:count], folder / f"data{count}", options=["--workers", "1"]) as server:
                use(server, server.token)
                now = held_bytes(server.pid)
                print(f"{count} models, one client: {now / 1e6:.0f} MB ({(now - before) / 1e6:+.0f} MB)", flush=True)
                before = now
        with LocalServer(bundles[:1], folder / "clients", options=["--workers", "1"]) as server:
            before = held_bytes(server.pid)
            print(f"no client: {before / 1e6:.0f} MB", flush=True)
            for count in range(1, CLIENTS + 1):
                size = use(server, add_token(server, f"client {count}", Scope.CLASSIFY))
                now = held_bytes(server.pid)
                grown = f"{now / 1e6:.0f} MB ({(now - before) / 1e6:+.0f} MB)"
                print(f"{count} clients: {grown}; keys of {size / 1e6:.1f} MB each", flush=True)
                before = now


if __name__ == "__main__":
    main()
