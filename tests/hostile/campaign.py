"""A campaign of hostile messages against a running server: sends them and judges the answers."""

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from he_infer.head.bundle import HeadBundle
from he_infer.local_server import LocalServer
from he_infer.server.tokens import Scope
from he_infer.wire import envelope as wire
from he_infer.wire.refusals import REFUSALS, Code
from tests.he_infer.server.support.kit import add_token, client_of, is_right
from tests.he_infer.server.support.processes import peak_megabytes, processes
from tests.hostile.messages import Message, Mutations
from tests.hostile.outcome import Outcome

# The campaign measures what is refused, not how slowly a client of such messages is served.
for _limit in ("MALFORMED_PER_MINUTE", "REGISTRATIONS_PER_HOUR"):
    os.environ.setdefault(f"HE_INFER_SERVER_{_limit}", "1000000")

# Codes that may answer a hostile message. Not among them: internal, damaged, storage.
EXPECTED = frozenset(Code) - {Code.INTERNAL, Code.DAMAGED, Code.STORAGE}

# A message of right form with a fresh nonce can be accepted: the sender gets back its own nonsense.
MAY_BE_ACCEPTED = frozenset(
    {"flipped", "spliced", "resealed flip", "resealed splice", "resealed noise", "wrong tenant's ciphertext"}
)


@dataclass
class Answered(Outcome):
    """Counts of messages over HTTP. Among the refused, `(HTTP 400)` and `(closed)` are the HTTP parser's own."""

    server_errors: int = 0
    """Answers with a status of 500."""
    server_deaths: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "status_500": self.server_errors, "server_deaths": self.server_deaths}

    def check(self) -> None:
        super().check()
        assert self.server_errors == self.server_deaths == 0
        assert set(self.accepted) <= MAY_BE_ACCEPTED


def over_http(
    bundle: Path,
    folder: Path,
    count: int,
    seed: int,
    *,
    senders: int = 2,
    progress: Callable[[int], None] | None = None,
) -> Answered:
    """Send `count` hostile messages to a server of one's own, while an honest client of another tenant keeps asking."""
    features = np.random.default_rng(seed).uniform(-1, 1, (1, 32))
    expected = HeadBundle.load(bundle).head.evaluate(features)
    outcome = Answered()
    with LocalServer([bundle], folder, options=["--workers", "2"]) as server:
        victim_token = add_token(server, "victim", Scope.CLASSIFY, Scope.STORE)
        operator_token = add_token(server, "operator", Scope.ADMIN)
        began, pid = time.monotonic(), server.pid
        with client_of(server) as client, client_of(server, victim_token) as victim:
            treasure = b"a sealed image of the victim's"
            stored = victim.session.put_object(treasure).id
            done = threading.Event()

            def ask_on() -> None:
                while not done.is_set():
                    right = is_right(victim.plan, victim.scores(features), expected)
                    outcome.honest_wrong += not (right and victim.session.get_object(stored) == treasure)
                    outcome.honest += 1
                    time.sleep(0.02)

            honest = threading.Thread(target=ask_on)
            honest.start()
            try:
                everything = [Mutations(client, victim, stored, features, seed + number) for number in range(senders)]
                shares = [count // senders + (number < count % senders) for number in range(senders)]
                with ThreadPoolExecutor(senders) as pool:
                    list(
                        pool.map(
                            lambda pair: _send(outcome, server, *pair, progress), zip(everything, shares, strict=True)
                        )
                    )
            finally:
                done.set()
                honest.join()
            assert set(outcome.sent) <= set(everything[0].kinds)
        outcome.seconds = time.monotonic() - began
        outcome.server_deaths = int(
            server.pid != pid or httpx2.get(f"{server.url}/readyz", timeout=120.0).status_code != 200
        )
        text = httpx2.get(
            f"{server.url}/metrics", headers={"Authorization": f"Bearer {operator_token}"}, timeout=120.0
        ).text
        outcome.worker_deaths = _metric(text, "he_infer_worker_deaths_total")
        outcome.workers_overdue = _metric(text, "he_infer_worker_overdue_total")
        outcome.peak_megabytes = max(peak_megabytes(pid) for pid in processes(server.pid))
    return outcome


def _send(
    outcome: Answered, server: LocalServer, mutations: Mutations, count: int, progress: Callable[[int], None] | None
) -> None:
    with httpx2.Client(base_url=server.url, timeout=300.0, trust_env=False) as http:
        for _ in range(count):
            kind, message = mutations.draw()
            outcome.sent[kind] += 1
            if message.method:
                headers = {**message.headers, **({"Authorization": f"Bearer {message.token}"} if message.token else {})}
                encoded = {name: value.encode() for name, value in headers.items()}
                response = http.request(message.method, message.path, content=message.body, headers=encoded)
                _judge(outcome, kind, response.status_code, response.content)
            else:
                _judge_bare(outcome, kind, server, message)
            if progress:
                progress(1)


def _judge(outcome: Answered, kind: str, status: int, content: bytes) -> None:
    outcome.server_errors += status == 500
    if 200 <= status < 300:
        outcome.accepted[kind] += 1
        if not content.startswith(wire.MAGIC):
            outcome.undocumented.append(f"{kind}: {status} {content[:200]!r}")
        return
    try:
        error = httpx2.Response(status, content=content).json()["error"]
        code = Code(error["code"])
        fitting = status == REFUSALS[code].status and error["message"] and error["request_id"]
    except (ValueError, KeyError, TypeError):
        code, fitting = Code.INTERNAL, False
    if fitting and code in EXPECTED:
        outcome.refused[code.value] += 1
    else:
        outcome.undocumented.append(f"{kind}: {status} {content[:200]!r}")


def _judge_bare(outcome: Answered, kind: str, server: LocalServer, message: Message) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=300) as connection:
        try:
            connection.sendall(message.body)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:  # it closed before it had read all
            pass
    if not answer:
        outcome.refused["(closed)"] += 1
    elif answer.startswith(b"HTTP/1.1 400 ") and b'"error"' not in answer:
        outcome.refused["(HTTP 400)"] += 1
    else:
        head, _, body = answer.partition(b"\r\n\r\n")
        _judge(outcome, kind, int(head.split(b" ")[1]), body)


def _metric(text: str, name: str) -> int:
    return int(next(float(line.split(" ")[1]) for line in text.splitlines() if line.startswith(name + " ")))
