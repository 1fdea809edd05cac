"""SIGKILL of the server, and of its workers, at random moments."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from he_infer.ckks.packing import unpack
from he_infer.client.connection.session import Session
from he_infer.errors import HeInferError
from he_infer.head.bundle import HeadBundle
from he_infer.local_server import LocalServer
from he_infer.server.evidence import audit_log as audit
from he_infer.server.service import AUDIT_FILE
from tests.faults.kit import Everyday, soon, timed
from tests.faults.outcome import Outcome
from tests.he_infer.server.support.kit import Client, client_of, is_right
from tests.he_infer.server.support.processes import worker_pids

OPTIONS = ["--workers", "1"]


def kill_the_server(
    bundle: Path, folder: Path, kills: int, seed: int = 1, progress: Callable[[int], None] | None = None
) -> Outcome:
    """Kill the server while it registers, stores, reads and classifies; after each restart look for lost data.

    A second client registers its keys once, before the first kill, and must be answered correctly after each.
    """
    outcome = Outcome()
    everyday = Everyday(bundle, outcome, seed)
    rng = np.random.default_rng(seed + 1)
    features = rng.uniform(-1, 1, (1, 32))
    expected = HeadBundle.load(bundle).head.evaluate(features)
    token, steady = "", None
    with timed(outcome):
        for number in range(kills + 1):
            server = LocalServer([bundle], folder, token=token or None, options=OPTIONS).start()
            token = server.token
            with Session(server.url, token, patience=0) as session:
                everyday.audit(session, sample=8 if number < kills else None)
                if steady is None:
                    steady = Client(server, session, token)
                    plan = steady.plan
                steady.session = session
                outcome.lost += {keys.plan for keys in session.key_sets()} != {plan.digest}
                outcome.wrong += not is_right(steady.plan, steady.scores(features), expected)
                if number == kills:
                    break
                everyday_client = _with_keys_of(steady, session)
                killer = threading.Timer(float(rng.uniform(0.0, 1.0)), server.kill)
                killer.start()
                try:
                    while True:
                        everyday.step(everyday_client)
                except HeInferError as error:
                    outcome.refuse(error)
                    outcome.injected[f"SIGKILL while: {everyday.doing}"] += 1
            killer.join()
            audit.verify(folder / AUDIT_FILE) if not _torn(folder / AUDIT_FILE) else None
            if progress:
                progress(1)
        assert server.stop() == 0
    audit.verify(folder / AUDIT_FILE)
    outcome.notes["objects kept"] = len(everyday.kept)
    return outcome


def kill_workers(
    bundle: Path, folder: Path, kills: int, seed: int = 3, progress: Callable[[int], None] | None = None
) -> Outcome:
    """Kill workers while three clients ask: each request is answered correctly, or refused after a second try."""
    outcome = Outcome()
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (1, 32))
    expected = HeadBundle.load(bundle).head.evaluate(features)
    with (
        timed(outcome),
        LocalServer([bundle], folder, options=["--workers", "2"]) as server,
        client_of(server) as client,
    ):
        parts = client.encrypt(features)
        done = threading.Event()

        def ask() -> None:
            with Session(server.url, server.token) as own:
                while not done.is_set():
                    try:
                        answer = own.classify(client.model, client.plan, client.key_set, parts)
                    except HeInferError as error:
                        outcome.refuse(error)
                    else:
                        scores = unpack(client.plan, client.secret.open_answer(client.plan, list(answer.parts)), 1)
                        outcome.wrong += not is_right(client.plan, scores, expected)
                        outcome.acknowledged["classify"] += 1

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        while outcome.injected.total() < kills:
            answered = outcome.acknowledged["classify"]
            if not soon(lambda answered=answered: outcome.acknowledged["classify"] >= answered + 3):
                outcome.odd.append("no request was answered for half a minute")
                break
            time.sleep(float(rng.uniform(0.0, 0.1)))
            pids = worker_pids(server)
            if pids:
                with suppress(ProcessLookupError):
                    os.kill(pids[int(rng.integers(len(pids)))], signal.SIGKILL)
                    outcome.injected["SIGKILL of a worker"] += 1
                    if progress:
                        progress(1)
        done.set()
        for thread in threads:
            thread.join(timeout=120)
        outcome.lost += sum(thread.is_alive() for thread in threads)  # a request without an answer
        outcome.wrong += not is_right(client.plan, client.scores(features), expected)
    return outcome


def _with_keys_of(steady: Client, session: Session) -> Client:
    """Put a client on another session with the keys that it has, so that it registers the same ones."""
    steady.session = session
    return steady


def _torn(path: Path) -> bool:
    """Tell whether the last line was cut off when the server died; the next start sets it aside."""
    return not path.read_bytes().endswith(b"\n")
