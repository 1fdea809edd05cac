"""The server's clock jumps ahead and back, by libfaketime from Debian, for its processes only."""

import time
from pathlib import Path

import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import Unauthorised
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from tests.faults.kit import Everyday, alive, timed
from tests.faults.outcome import Outcome
from tests.he_infer.server.support.kit import add_token, client_of

LIBRARIES = [Path(f"/usr/lib/{name}/faketime/libfaketimeMT.so.1") for name in ("x86_64-linux-gnu", "aarch64-linux-gnu")]
OPTIONS = ["--workers", "1", "--engine", "seal"]
"""Under libfaketime `time.sleep` fails, by which the native engine's self-test is awaited."""
JUMPS = (3600, -3600, 86_400, 0, -86_400 * 30, 200, -200, 86_400 * 365)


def library() -> Path | None:
    """Path of libfaketime, or None where it is not installed."""
    return next((path for path in LIBRARIES if path.exists()), None)


def jump(bundle: Path, folder: Path, jumps: int, steps: int = 4, seed: int = 8) -> Outcome:
    """Set the server's clock to other times; keep asking, replay accepted envelopes, and use an expired token."""
    outcome = Outcome()
    everyday = Everyday(bundle, outcome, seed, largest=50_000)
    folder.mkdir(parents=True)
    clock = folder / "clock"
    set_clock(clock, 0)
    with timed(outcome), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library()))
        patch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
        patch.setenv("FAKETIME_NO_CACHE", "1")
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        with LocalServer([bundle], folder / "data", options=OPTIONS) as server, client_of(server, patience=0) as client:
            short = add_token(server, "short", tokens.Scope.CLASSIFY, expires=time.time() + 1800)
            accepted = [client.enveloped(client.encrypt(everyday.rng.uniform(-1, 1, (1, 32))))]
            outcome.odd += [] if client.post(accepted[0]).status_code == 200 else ["the first request was refused"]
            for number in range(jumps):
                offset = JUMPS[number % len(JUMPS)]
                set_clock(clock, offset)
                outcome.injected[f"the clock is {offset:+d} s off"] += 1
                for _ in range(steps):  # the session notices, and takes the server's time anew
                    everyday.step(client)
                for envelope in accepted:
                    answer = client.post(envelope)
                    code = answer.json()["error"]["code"] if answer.status_code != 200 else "accepted"
                    outcome.refused[f"sent again: {code}"] += 1
                    outcome.wrong += code not in ("stale", "replayed")
                stamp = int((time.time() + offset) * 1000)
                fresh = client.enveloped(client.encrypt(everyday.rng.uniform(-1, 1, (1, 32))), time=stamp)
                if client.post(fresh).status_code == 200:
                    accepted.append(fresh)
                else:
                    outcome.odd.append(f"an envelope of the server's own time was refused at {offset:+d} s")
                outcome.wrong += _accepts(server, short) != (offset < 1800)
            outcome.server_deaths += not alive(server)
            set_clock(clock, 0)
            everyday.step(client)
            everyday.audit(client.session)
    return outcome


def set_clock(clock: Path, offset: float) -> None:
    """Set the clocks of the processes that read this file, so many seconds off."""
    new = clock.with_suffix(".new")
    new.write_text(f"{offset:+.0f}\n")
    new.replace(clock)


def _accepts(server: LocalServer, token: str) -> bool:
    try:
        with Session(server.url, token, patience=0) as session:
            session.models()
    except Unauthorised:
        return False
    return True
