"""Clocks of client and server that disagree or jump: answers stay right, and nothing is accepted or allowed twice."""

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest

from he_infer.client.connection.session import Session
from he_infer.client.key_rotation import prune_keys, rotate_keys
from he_infer.client.keys.key_file import KeyFile
from he_infer.errors import RequestRefused, ServerBusy
from he_infer.local_server import LocalServer
from he_infer.server.metadata import Quotas
from he_infer.server.tokens import Scope
from tests.attacks.kit import FEATURES, Scene
from tests.faults.clock import library, set_clock
from tests.he_infer.server.support.kit import Client, add_token, client_of, refusal

HOUR, DAY = 3600.0, 86_400.0
OFFSETS = (-30 * DAY, -5 * HOUR, 5 * HOUR, 365 * DAY)


def shift(monkeypatch: pytest.MonkeyPatch, offset: float) -> None:
    """Set the clock of this process, which is the client's."""
    monkeypatch.undo()
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + offset)


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_client_whose_clock_is_wrong_gets_its_answers(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, offset: float
) -> None:
    began = time.time()
    shift(monkeypatch, offset)
    client = scene.honest
    with Session(scene.server.url, client.token, patience=0) as session:
        answer = session.classify(client.model, client.plan, client.key_set, client.encrypt(FEATURES))
        assert abs(session.server_time - began) < 60
        assert abs(answer.receipt.time / 1000 - began) < 60
    assert np.allclose(client.opened(answer.parts), client.scores(FEATURES), atol=1e-2)


def test_a_client_whose_clock_jumps_in_a_run_goes_on(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    client = scene.honest
    with Session(scene.server.url, client.token, patience=0) as session:
        for offset in (0.0, *OFFSETS, 0.0):
            shift(monkeypatch, offset)
            session.classify(client.model, client.plan, client.key_set, client.encrypt(FEATURES))


@pytest.mark.parametrize("offset", [-5 * HOUR, -400.0, 400.0, 5 * HOUR])
def test_an_envelope_that_is_dated_by_a_wrong_clock_is_refused(scene: Scene, offset: float) -> None:
    client = scene.honest
    body = client.enveloped(client.encrypt(FEATURES), time=int((time.time() + offset) * 1000))
    assert refusal(client.post(body)).value == "stale"


def test_a_client_whose_clock_is_ahead_deletes_no_key_set_early(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another copy of the key file would lose its key set while the overlap goes on."""
    client = scene.honest
    with Session(scene.server.url, client.token) as session:
        keys = KeyFile.new([client.plan], server_key=session.server_key)
        keys.save(tmp_path / "k.key", "correct horse battery staple")
        keys = KeyFile.load(tmp_path / "k.key", "correct horse battery staple")
        fresh = rotate_keys(session, keys, tmp_path / "k.key", 7 * DAY)
        registered = len(session.key_sets())
        shift(monkeypatch, 365 * DAY)
        assert prune_keys(session, fresh, tmp_path / "k.key").retired == fresh.retired
        assert len(session.key_sets()) == registered
        session.forget_keys(client.plan.digest, fresh.key_set)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that sets the clocks of the servers that are started from here on."""
    if library() is None:
        pytest.skip("libfaketime is not installed (Debian: apt-get install faketime)")
    file = tmp_path / "clock"
    set_clock(file, 0)
    for name, value in {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return file


def serve(scene: Scene, folder: Path, token: str | None = None) -> LocalServer:
    return LocalServer([scene.bundle], folder, token=token, options=["--workers", "1"])


def test_no_envelope_is_accepted_twice_over_a_restart_with_the_clock_ahead(
    scene: Scene, clock: Path, tmp_path: Path
) -> None:
    """A machine that starts with a wrong clock forgot all nonces at once; then its clock was set right."""
    with serve(scene, tmp_path / "data") as server, client_of(server) as client:
        body = client.enveloped(client.encrypt(FEATURES))
        assert client.post(body).status_code == 200
    set_clock(clock, 3 * HOUR)
    with serve(scene, tmp_path / "data", client.token) as server:
        with Session(server.url, client.token) as session:
            assert session.server_time - time.time() > 2 * HOUR
        time.sleep(1.0)  # it keeps house for the first time
        set_clock(clock, 0)
        client.server = server
        assert refusal(client.post(body)).value == "replayed"


def test_a_day_that_comes_twice_has_one_limit(scene: Scene, clock: Path, tmp_path: Path) -> None:
    """The server's clock goes on to tomorrow and back over midnight, again and again."""
    with serve(scene, tmp_path / "data") as server:
        token = add_token(server, "limited", Scope.CLASSIFY, quotas=Quotas(daily_queries=2))
        with client_of(server, token, patience=0) as client:
            answered = 0
            for offset in (0.0, DAY, 0.0, DAY, -HOUR, DAY - HOUR):
                set_clock(clock, offset)
                answered += count_answers(client)
            # Today and tomorrow, and perhaps the day before or after, where an hour more or less crosses midnight.
            assert answered in (4, 6)


def count_answers(client: Client, tried: int = 4) -> int:
    """How many questions are answered before the first one that is refused."""
    answered = 0
    with contextlib.suppress(RequestRefused, ServerBusy):
        for _ in range(tried):
            client.scores(FEATURES)
            answered += 1
    return answered
