"""Shared by the scenarios: a client that sends requests of all kinds and remembers what was acknowledged."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from he_infer.client.connection.session import Session
from he_infer.errors import HeInferError, ServerBusy, ServerUnreachable
from he_infer.head.bundle import HeadBundle
from he_infer.local_server import LocalServer
from tests.faults.outcome import Outcome
from tests.he_infer.server.support.kit import Client, is_right


class Everyday:
    """Registers, stores, reads and classifies at random, and keeps what was acknowledged.

    Args:
        seed: seed of the random choices.
        largest: bytes of the largest object.
    """

    def __init__(self, bundle: Path, outcome: Outcome, seed: int, largest: int = 300_000) -> None:
        self.outcome = outcome
        self.kept: dict[str, bytes] = {}
        self.rng = np.random.default_rng(seed)
        self.doing = "connecting"
        self._features = self.rng.uniform(-1, 1, (1, 32))
        self._expected = HeadBundle.load(bundle).head.evaluate(self._features)
        self._largest = largest

    def step(self, client: Client) -> None:
        """Send one request; raises the errors of the session."""
        kinds = ("store", "store", "classify", "classify", "read", "register")
        self.doing = kinds[int(self.rng.integers(len(kinds)))]
        match self.doing:
            case "store":
                data = self.rng.bytes(int(self.rng.integers(1, self._largest)))
                self.kept[client.session.put_object(data).id] = data
            case "classify":
                self.outcome.wrong += not is_right(client.plan, client.scores(self._features), self._expected)
            case "read":
                if not self.kept:
                    return
                name = list(self.kept)[int(self.rng.integers(len(self.kept)))]
                self.outcome.wrong += client.session.get_object(name) != self.kept[name]
            case _:
                client.session.register(client.plan, client.key_set, client.keys)
        self.outcome.acknowledged[self.doing] += 1

    def try_step(self, client: Client) -> bool:
        """Send one request and count a refusal; returns whether it succeeded."""
        try:
            self.step(client)
        except HeInferError as error:
            self.outcome.refuse(error)
            return False
        return True

    def audit(self, session: Session, *, sample: int | None = None) -> None:
        """Look for every acknowledged object (or the contents of a sample), and for halves of any other."""
        listed = {entry.id: entry for entry in session.objects()}
        missing = set(self.kept) - set(listed)
        self.outcome.lost += len(missing)
        names = [name for name in listed if name in self.kept]
        if sample is not None and len(names) > sample:
            names = [names[int(index)] for index in self.rng.permutation(len(names))[:sample]]
        for name in names:
            self.outcome.lost += session.get_object(name) != self.kept[name]
        for name in set(listed) - set(self.kept):  # stored, and the answer lost: whole, or not there at all
            whole = session.get_object(name)
            self.outcome.wrong += hashlib.sha256(whole).hexdigest() != listed[name].sha256
            self.kept[name] = whole
            self.outcome.notes["stored without an answer"] = self.outcome.notes.get("stored without an answer", 0) + 1


@contextmanager
def timed(outcome: Outcome) -> Iterator[None]:
    """Note how long a scenario took."""
    began = time.monotonic()
    try:
        yield
    finally:
        outcome.seconds += time.monotonic() - began


def soon(what: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until a condition holds, for a bounded time; an unreachable server counts as not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if what():
                return True
        except (ServerBusy, ServerUnreachable):
            pass
        time.sleep(0.02)
    return False


def run(*command: str) -> None:
    """Run a command of the system's, whose output goes into the error where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def unmount(folder: Path) -> None:
    """Unmount, as soon as the last process of a server that has ended is gone."""

    def unmounted() -> bool:
        return subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0

    assert soon(unmounted), f"{folder} stays busy"


def may_mount() -> bool:
    """Tell whether this process may mount file systems, as root in most containers' hosts and virtual machines may."""
    return os.geteuid() == 0 and Path("/dev/loop-control").exists()


def alive(server: LocalServer) -> bool:
    """Tell whether the server's process is alive."""
    return Path(f"/proc/{server.pid}").exists()
