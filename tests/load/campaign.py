"""Load: half to three times what a server can do, one flooding tenant beside a steady one, restarts under load.

Rates and latencies are of this machine; what counts are the ratios between them, all from the same run.
"""

import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from he_infer.client.connection.session import Session
from he_infer.errors import HeInferError
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from tests.he_infer.server.support.kit import Client, add_token, agree
from tests.he_infer.server.support.processes import processes

ROOT = Path(__file__).parents[2]
PROCESSES = 4
OPTIONS = ["--workers", "1"]


@dataclass
class Tenant:
    """A client of the server, and the files from which client processes send its request."""

    client: Client
    parts: list[str]

    def orders(self, **more: Any) -> dict[str, Any]:
        """Orders for a client process."""
        client = self.client
        about = {"url": client.server.url, "token": client.token, "model": client.model.id, "plan": client.plan.digest}
        about["key_set"] = client.key_set
        return {**about, "parts": self.parts, **more}


class Memory:
    """Samples what the server's processes hold together (Pss), in a thread."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.samples: list[int] = []

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.5):
            self.samples.append(held(self._server))


def held(server: LocalServer) -> int:
    """Bytes that the server's processes hold, shared ones divided among them."""
    total = 0
    for pid in processes(server.pid):
        try:
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(found.group(1)) * 1024 if found else 0
    return total


def drive(everyone: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Start one client process for each of the orders, all at the same moment; returns the outcome of each request."""
    begin = time.monotonic() + 1.5 + 0.5 * len(everyone)
    running = []
    for orders in everyone:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.load.generator"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({**orders, "begin": begin}).encode())
        process.stdin.close()
        process.stdin = None
        running.append(process)
    return [json.loads(process.communicate()[0]) for process in running]


def rate_orders(tenant: Tenant, rate: float, seconds: float, seed: int) -> list[dict[str, Any]]:
    """A tenant's rate shared out among the client processes."""
    share = rate / PROCESSES
    return [tenant.orders(rate=share, seconds=seconds, seed=seed + number) for number in range(PROCESSES)]


def summary(results: Sequence[Sequence[dict[str, Any]]], seconds: float) -> dict[str, Any]:
    """Counts and quantiles of the outcomes of all requests."""
    everything = [result for part in results for result in part]
    good = sorted(result["latency"] for result in everything if result["status"] == 200)
    busy = sorted(result["latency"] for result in everything if result["status"] == 429)
    first = min((result["due"] for result in everything), default=0.0)
    # Those answered late do not count for the rate: only what came within the time of sending.
    in_time = sum(
        result["status"] == 200 and result["due"] + result["latency"] <= first + seconds for result in everything
    )
    other = [result for result in everything if result["status"] not in (200, 429)]
    return {
        "sent": len(everything),
        "answered": len(good),
        "refused 429": len(busy),
        "other": len(other),
        "without Retry-After": sum(result["status"] == 429 and not result["retry_after"] for result in everything),
        "per second": in_time / seconds,
        "latency p50": _quantile(good, 0.5),
        "latency p95": _quantile(good, 0.95),
        "429 p50": _quantile(busy, 0.5),
        "429 p95": _quantile(busy, 0.95),
    }


def _quantile(values: Sequence[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None


def capacity(tenant: Tenant, seconds: float) -> float:
    """Answers a second when two client processes keep two requests each under way."""
    results = drive([tenant.orders(at_once=2, seconds=seconds) for _ in range(2)])
    return float(summary(results, seconds)["per second"])


def curve(
    server: LocalServer,
    tenant: Tenant,
    factors: Sequence[float],
    seconds: float,
    repeats: int,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """The server at multiples of what it can do, in a new order in each repeat."""
    rng = np.random.default_rng(12)
    capacity(tenant, 3.0)  # warm: the keys are in the worker's cache, the mean time of a task is measured
    points: list[dict[str, Any]] = []
    capacities = []
    for repeat in range(repeats):
        best = capacity(tenant, seconds)
        capacities.append(best)
        for factor in rng.permutation(factors):
            before = held(server)
            with Memory(server) as memory:
                results = drive(rate_orders(tenant, float(factor) * best, seconds, int(rng.integers(1 << 30))))
            points.append(
                {
                    "factor": float(factor),
                    "repeat": repeat,
                    "capacity": best,
                    "memory before": before,
                    "memory peak": max(memory.samples),
                    **summary(results, seconds),
                }
            )
            progress(1)
    return {"capacity per second": capacities, "points": points}


def ratios(measured: dict[str, Any]) -> dict[str, Any]:
    """The figures as ratios to those at the server's own capacity, each as median and range over the repeats."""
    points = measured["points"]
    factors = sorted({point["factor"] for point in points})
    at: dict[float, list[dict[str, Any]]] = {f: [p for p in points if p["factor"] == f] for f in factors}
    rates = [statistics.median(point["per second"] / point["capacity"] for point in at[factor]) for factor in factors]
    best = max(rates)
    base = statistics.median(point["latency p95"] for point in at[min(factors, key=lambda f: abs(f - 1.0))])
    rows = {}
    for factor in factors:
        here = at[factor]
        rows[f"{factor:g}x"] = {
            "throughput to best": _spread([point["per second"] / point["capacity"] / best for point in here]),
            "latency p95 to that at 1x": _spread([point["latency p95"] / base for point in here]),
            "429 p95 to latency p50": _spread(
                [point["429 p95"] / point["latency p50"] for point in here if point["429 p95"] is not None]
            ),
            "share refused": _spread([point["refused 429"] / max(1, point["sent"]) for point in here]),
            "memory peak to before": _spread([point["memory peak"] / point["memory before"] for point in here]),
        }
    return rows


def _spread(values: Sequence[float]) -> list[float] | None:
    """Median, least and largest."""
    if not values:
        return None
    return [round(statistics.median(values), 3), round(min(values), 3), round(max(values), 3)]


def fairness(steady: Tenant, flood: Tenant, best: float, seconds: float, repeats: int) -> dict[str, Any]:
    """A steady tenant at three tenths of the capacity, alone and beside one that sends three times the capacity."""
    kept, alone_refused, beside_refused = [], 0, 0
    slowed: dict[str, list[float]] = {"p50": [], "p95": []}
    for repeat in range(repeats):
        orders = steady.orders(rate=0.3 * best, seconds=seconds, seed=100 + repeat)
        alone = summary(drive([orders]), seconds)
        floods = rate_orders(flood, 3.0 * best, seconds, 1000 * (repeat + 1))
        beside = summary(drive([orders, *floods])[:1], seconds)
        kept.append((beside["answered"] / beside["sent"]) / (alone["answered"] / alone["sent"]))
        for name, found in slowed.items():
            found.append(beside[f"latency {name}"] / alone[f"latency {name}"])
        alone_refused += alone["refused 429"]
        beside_refused += beside["refused 429"]
    return {
        "answers kept beside a flood": _spread(kept),
        **{f"latency {name} beside a flood to alone": _spread(values) for name, values in slowed.items()},
        "steady refused alone": alone_refused,
        "steady refused beside a flood": beside_refused,
    }


def rolling(bundle: Path, folder: Path, restarts: int) -> dict[str, Any]:
    """Start a second server on the same port and folder, end the first, and so on, under four patient clients."""
    options = [*OPTIONS, "--reuse-port"]
    server = LocalServer([bundle], folder, options=options).start()
    port = server.url.rpartition(":")[2]
    answered, lost, longest = 0, [], 0.0
    lock = threading.Lock()
    with Session(server.url, server.token, patience=60) as first:
        client = Client(server, first, server.token)
        features = np.random.default_rng(1).uniform(-1, 1, (1, client.plan.width))
        expected = client.scores(features)
        parts = client.encrypt(features)
        done = threading.Event()

        def ask_on() -> None:
            nonlocal answered, longest
            with Session(server.url, client.token, patience=60) as own:
                while not done.is_set():
                    began = time.monotonic()
                    try:
                        answer = own.classify(client.model, client.plan, client.key_set, parts)
                    except HeInferError as error:
                        lost.append(str(error))
                        continue
                    with lock:
                        right = agree(client.plan, client.opened(answer.parts), expected)
                        lost.extend([] if right else ["a wrong answer"])
                        answered += 1
                        longest = max(longest, time.monotonic() - began)

        threads = [threading.Thread(target=ask_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        clean = 0
        running = server
        for _ in range(restarts):
            following = LocalServer([bundle], folder, token=client.token, options=[*options, "--port", port]).start()
            clean += running.stop() == 0
            running = following
            time.sleep(0.5)
        done.set()
        for thread in threads:
            thread.join()
        clean += running.stop() == 0
    return {
        "restarts": restarts,
        "answered": answered,
        "lost": len(lost),
        "first losses": lost[:3],
        "servers that ended with 0": clean,
        "longest wait, seconds": round(longest, 2),
    }


def tenant(server: LocalServer, session: Session, token: str, folder: Path) -> Tenant:
    """Make keys, register them, encrypt one request and write it down for the client processes."""
    client = Client(server, session, token)
    features = np.random.default_rng(2).uniform(-1, 1, (1, client.plan.width))
    paths = []
    for index, part in enumerate(client.encrypt(features)):
        path = folder / f"{tokens.token_id(token)}-{index}"
        path.write_bytes(part)
        paths.append(str(path))
    return Tenant(client, paths)


def second_token(server: LocalServer) -> str:
    """A token of another tenant."""
    return add_token(server, "flood", tokens.Scope.CLASSIFY)
