"""Nonces and counts after a kill of the process and after a crash of the machine that lost all unsynced writes."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from he_infer.server.authentication import authenticate, authenticate_from_memory
from he_infer.server.metadata import Caller, Metadata, Question, Quotas, replays
from he_infer.server.metadata.database import Database
from he_infer.server.metadata.questions import AHEAD_IMAGES
from he_infer.server.tokens import Scope, new_token
from he_infer.wire.refusals import Code, Refused

WINDOW = 300.0
ACCEPTED_BEFORE = {Code.REPLAYED, Code.STALE, Code.BUSY}


class Machine:
    """A clock, a boot id and a disk that keeps only what was synced."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1.8e9
        self.boots = 0
        self._folder = folder
        folder.mkdir()
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(replays, "find_boot_id", lambda: f"boot {self.boots}")
        real = Database.plain

        def plain(database: Database, *, durable: bool = True):  # type: ignore[no-untyped-def]  # a wrapper as it is
            return _Synced(real(database, durable=durable), self if durable else None)

        monkeypatch.setattr(Database, "plain", plain)
        self.metadata = Metadata.sqlite(folder / "m.sqlite3")
        token = new_token()
        self.metadata.tokens.add("a", token, frozenset({Scope.CLASSIFY}), quotas=Quotas(daily_queries=10**6))
        self.caller: Caller = authenticate(self.metadata, token.text, Scope.CLASSIFY)
        self.sync()

    def sync(self) -> None:
        """Take the files as they are now for what the disk has."""
        shutil.rmtree(self._folder / "disk", ignore_errors=True)
        (self._folder / "disk").mkdir()
        for name in ("m.sqlite3", "m.sqlite3-wal"):
            if (self._folder / name).exists():
                shutil.copy2(self._folder / name, self._folder / "disk" / name)

    def crash(self) -> None:
        """Lose what was not synced, and start again."""
        self.metadata.close()
        for path in self._folder.glob("m.sqlite3*"):
            path.unlink()
        for path in (self._folder / "disk").iterdir():
            shutil.copy2(path, self._folder / path.name)
        self.boots += 1
        self.metadata = Metadata.sqlite(self._folder / "m.sqlite3")

    def ask(self, nonce: str, sent: float, images: int = 1) -> Code | None:
        try:
            question = Question("m", "p", images, nonce, sent, self.now + 2 * WINDOW, None, asked=self.now)
            self.metadata.questions.admit(self.caller, question)
        except Refused as refused:
            return refused.code
        return None

    def counted(self) -> int:
        return self.metadata.queries.count(self.caller.client_id, int(self.now // 86400))


class _Synced:
    """A transaction after which the disk is as the files are."""

    def __init__(self, inner, machine: Machine | None) -> None:  # type: ignore[no-untyped-def]  # a context manager
        self._inner, self._machine = inner, machine

    def __enter__(self):  # type: ignore[no-untyped-def]  # whatever the inner one yields
        return self._inner.__enter__()

    def __exit__(self, *error: object) -> bool | None:
        ended: bool | None = self._inner.__exit__(*error)
        if self._machine is not None and error[0] is None:
            self._machine.sync()
        return ended


def test_unsynced_requests_are_lost_by_a_crash_and_refused_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path / "m", monkeypatch)
    assert [machine.ask(f"n{number}", machine.now) for number in range(20)] == [None] * 20
    machine.crash()
    # The rows are gone, as this test wants them to be: it is the window that refuses, for as long as it lasts.
    assert [machine.ask(f"n{number}", machine.now) for number in range(20)] == [Code.REPLAYED] + [Code.BUSY] * 19
    assert machine.counted() == 1 + AHEAD_IMAGES
    assert machine.ask("fresh", machine.now) is Code.BUSY
    sent = machine.now
    machine.now += replays.AHEAD_SECONDS + 1
    assert machine.ask("n3", sent) is Code.STALE
    assert machine.ask("fresh", machine.now) is None
    machine.metadata.close()


def test_a_restart_of_the_process_refuses_replays_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path / "m", monkeypatch)
    for number in range(5):
        assert machine.ask(f"n{number}", machine.now) is None
    machine.metadata.close()
    machine.metadata = Metadata.sqlite(tmp_path / "m" / "m.sqlite3")
    assert [machine.ask(f"n{number}", machine.now) for number in range(5)] == [Code.REPLAYED] * 5
    assert machine.ask("fresh", machine.now) is None
    assert machine.counted() == 6
    machine.metadata.close()


def test_a_server_that_stopped_cleanly_counts_nothing_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path / "m", monkeypatch)
    for number in range(5):
        assert machine.ask(f"n{number}", machine.now) is None
    machine.metadata.queries.settle()
    machine.sync()
    machine.crash()
    assert machine.counted() == 5
    machine.metadata.close()


@pytest.mark.parametrize("seed", range(4))
def test_no_replay_succeeds_and_no_image_is_uncounted_after_any_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    machine = Machine(tmp_path / "m", monkeypatch)
    accepted: dict[str, float] = {}
    images = 0
    for number in range(150):
        machine.now += rng.choice([0.0, 0.01, 0.2, 3.0])
        if rng.random() < 0.04:
            machine.crash()
            machine.now += rng.choice([0.0, 1.0, 30.0])
        if rng.random() < 0.05:
            machine.now -= rng.uniform(0, 100)  # the clock is set back
        if accepted and rng.random() < 0.4:
            nonce = rng.choice(sorted(accepted))
            if abs(accepted[nonce] - machine.now) <= WINDOW:
                assert machine.ask(nonce, accepted[nonce]) in ACCEPTED_BEFORE
            continue
        sent, count = machine.now + rng.choice([0.0, -5.0, 2.0, 100.0, rng.uniform(-300, 300)]), rng.choice([1, 1, 64])
        if machine.ask(f"n{number}", sent, count) is None:
            accepted[f"n{number}"] = sent
            images += count
        assert machine.counted() >= images
    assert len(accepted) > 10
    machine.metadata.close()


def test_most_requests_need_no_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path / "m", monkeypatch)
    synced: list[int] = []
    monkeypatch.setattr(machine, "sync", lambda: synced.append(1))
    for number in range(2 * AHEAD_IMAGES):
        assert machine.ask(f"n{number}", machine.now) is None
        machine.now += 0.01
    assert len(synced) == 2
    machine.metadata.close()


def test_a_killed_process_has_forgotten_no_nonce(tmp_path: Path) -> None:
    code = """
import sys, time
from he_infer.server.authentication import authenticate
from he_infer.server.metadata import Metadata, Question
from he_infer.server.tokens import Scope
metadata = Metadata(sys.argv[1])
caller = authenticate(metadata, sys.argv[2], Scope.CLASSIFY)
for number in range(10**6):
    now = time.time()
    metadata.questions.admit(caller, Question("m", "p", 1, f"n{number}", now, now + 600, None, asked=now))
    print(number, flush=True)
"""
    url = f"sqlite:///{tmp_path / 'm.sqlite3'}"
    metadata, token = Metadata(url), new_token()
    metadata.tokens.add("a", token, frozenset({Scope.CLASSIFY}))
    with subprocess.Popen([sys.executable, "-c", code, url, token.text], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "150\n":
                process.kill()
                break
        printed = 150 + len(process.stdout.read().splitlines())
    caller = authenticate(metadata, token.text, Scope.CLASSIFY)
    for number in range(printed):
        with pytest.raises(Refused) as refused:
            metadata.questions.admit(
                caller, Question("m", "p", 1, f"n{number}", time.time(), time.time() + 600, None, asked=time.time())
            )
        assert refused.value.code is Code.REPLAYED
    assert metadata.queries.count(caller.client_id, int(time.time() // 86400)) >= printed
    metadata.close()


def test_a_change_by_another_process_is_seen_by_the_next_request(tmp_path: Path) -> None:
    here, there = (Metadata.sqlite(tmp_path / "m.sqlite3") for _ in range(2))
    token = new_token()
    there.tokens.add("a", token, frozenset({Scope.CLASSIFY}))
    assert authenticate_from_memory(here, token.text, Scope.CLASSIFY) is None
    first = authenticate(here, token.text, Scope.CLASSIFY)
    assert authenticate_from_memory(here, token.text, Scope.CLASSIFY) == first
    there.clients.set_quotas("a", {"daily_queries": 3})
    assert authenticate_from_memory(here, token.text, Scope.CLASSIFY) is None
    assert authenticate(here, token.text, Scope.CLASSIFY).quotas.daily_queries == 3
    there.tokens.revoke(token.token_id)
    assert authenticate_from_memory(here, token.text, Scope.CLASSIFY) is None
    with pytest.raises(Refused):
        authenticate(here, token.text, Scope.CLASSIFY)
    with pytest.raises(Refused):  # and again, from memory
        authenticate_from_memory(here, token.text, Scope.CLASSIFY)
    with pytest.raises(Refused):
        authenticate_from_memory(here, token.text[:-1] + "_", Scope.CLASSIFY)
    here.close()
    there.close()
