"""The database of a running server stops and comes back: a private PostgreSQL, started and stopped here."""

import getpass
import os
import pwd
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from he_infer.local_server import LocalServer
from tests.faults.kit import Everyday, alive, run, soon, timed
from tests.faults.outcome import Outcome
from tests.he_infer.server.support.kit import client_of
from tests.he_infer.server.support.processes import processes

OPTIONS = ["--workers", "1"]


class Postgres:
    """A PostgreSQL cluster in a new folder that listens on a Unix socket only; under root it runs as `postgres`."""

    def __init__(self) -> None:
        # Not below a test's own folder, which only this process's user may enter; and a socket's path must be short.
        folder = Path(tempfile.mkdtemp(prefix="he-pg-"))
        self._folder = folder
        self._data = folder / "cluster"
        self._tools = tools()
        self._user = "postgres" if os.geteuid() == 0 else getpass.getuser()
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "--pgdata", str(self._data), "--auth", "trust", "--username", "he", "--no-sync")

    @property
    def url(self) -> str:
        """The SQLAlchemy URL."""
        return f"postgresql+psycopg://he@/postgres?host={self._folder}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' -c max_connections=40"
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "--pgdata", str(self._data), "--wait", "--log", log, "--options", options)

    def stop(self, mode: str) -> None:
        """Stop: `fast` ends all connections, `immediate` is a crash."""
        self._run("pg_ctl", "stop", "--pgdata", str(self._data), "--mode", mode, "--wait")

    def remove(self) -> None:
        """Stop, where it runs, and remove all of it."""
        with suppress(OSError):
            self.stop("immediate")
        shutil.rmtree(self._folder)

    def kill(self) -> None:
        """SIGKILL of the whole cluster, as the kernel's out-of-memory killer would."""
        main = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        cluster = processes(main)
        for pid in cluster:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in cluster))
        (self._data / "postmaster.pid").unlink()

    def _run(self, tool: str, *arguments: str) -> None:
        command = [str(self._tools / tool), *arguments]
        run(*(["runuser", "-u", self._user, "--", *command] if os.geteuid() == 0 else command))


def tools() -> Path:
    """The folder of PostgreSQL's programs.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = [Path(path).parent for path in [shutil.which("pg_ctl")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    raise FileNotFoundError("PostgreSQL's initdb and pg_ctl are not installed.")


def lost(bundle: Path, folder: Path, times: int, seed: int = 7) -> Outcome:
    """End the database under load, in turn by a stop, a crash and SIGKILL; start it again; look for lost data."""
    outcome = Outcome()
    everyday = Everyday(bundle, outcome, seed, largest=50_000)
    with timed(outcome), _running() as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HE_INFER_SERVER_DATABASE_URL", database.url)
        with LocalServer([bundle], folder / "data", options=OPTIONS) as server, client_of(server, patience=0) as client:
            done = threading.Event()

            def ask_on() -> None:
                while not done.is_set():
                    everyday.try_step(client)

            thread = threading.Thread(target=ask_on)
            thread.start()
            try:
                for number in range(times):
                    time.sleep(0.7)
                    how = ("fast", "immediate", "SIGKILL")[number % 3]
                    outcome.injected[f"database ended: {how}"] += 1
                    if how == "SIGKILL":
                        database.kill()
                    else:
                        database.stop(how)
                    time.sleep(0.7)
                    database.start()
                    before = outcome.acknowledged.total()
                    if not soon(lambda before=before: outcome.acknowledged.total() > before + 2):
                        outcome.odd.append("no request was answered after the database came back")
            finally:
                done.set()
                thread.join()
            everyday.audit(client.session)
            outcome.lost += not {keys.plan for keys in client.session.key_sets()}
            outcome.server_deaths += not alive(server)
    outcome.notes["objects kept"] = len(everyday.kept)
    return outcome


@contextmanager
def _running() -> Iterator[Postgres]:
    database = Postgres()
    try:
        database.start()
        yield database
    finally:
        database.remove()
