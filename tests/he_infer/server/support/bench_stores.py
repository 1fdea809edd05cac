"""Measures the cost of rows, scrubs, backups and limits, each against a plain baseline in the same run.

    python -m tests.he_infer.server.support.bench_stores

Prints medians of five runs and their ratio to the baseline. Not a test: no figure passes or fails.
"""

import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from he_infer.server.authentication import authenticate
from he_infer.server.evidence.audit_log import AuditLog
from he_infer.server.metadata import Caller, Metadata, ObjectRecord, Question, Quotas
from he_infer.server.storage.backup import State, backup
from he_infer.server.storage.blobs import Blobs
from he_infer.server.storage.scrub import scrub
from he_infer.server.tokens import Scope, new_token
from tests.he_infer.server.support import services

OBJECTS, SIZE, ROWS = 100, 1_000_000, 1000


def median(action: Callable[[], object], repeats: int = 5) -> float:
    """Median time of a function in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def filled(folder: Path, url: str) -> tuple[State, Caller]:
    """A site with `OBJECTS` objects of `SIZE` bytes."""
    metadata, blobs = Metadata(url), Blobs(folder / "blobs")
    token = new_token()
    metadata.tokens.add("bench", token, frozenset({Scope.STORE}))
    caller = authenticate(metadata, token.text, Scope.STORE)
    for number in range(OBJECTS):
        data = os.urandom(SIZE)
        blobs.put_new(f"objects/{number}", data)
        digest = hashlib.sha256(data).hexdigest()
        metadata.objects.add(caller, ObjectRecord(f"{number:032x}", f"objects/{number}", SIZE, digest, 1.0))
    return State(metadata, blobs, folder / "audit.jsonl", folder / "signing.key"), caller


def scrubbing_and_backup(folder: Path) -> None:
    state, _ = filled(folder, f"sqlite:///{folder / 'm.sqlite3'}")
    files = [path for path in (folder / "blobs").rglob("*") if path.is_file()]

    def hash_all() -> None:
        for path in files:
            hashlib.sha256(path.read_bytes()).hexdigest()

    megabytes = OBJECTS * SIZE / 1e6
    plain, full = median(hash_all), median(lambda: scrub(state.metadata, state.blobs))
    print(f"scrub: {megabytes / full:.0f} MB/s, {full / plain:.2f} times as long as hashing the files alone")

    count = 0

    def copy(make: Callable[[Path], object]) -> None:
        nonlocal count
        count += 1
        make(folder / f"copy{count}")
        shutil.rmtree(folder / f"copy{count}")

    plain = median(lambda: copy(lambda target: shutil.copytree(folder / "blobs", target)))
    full = median(lambda: copy(lambda target: backup(state, target, bytes(32))))
    print(f"backup: {megabytes / full:.0f} MB/s, {full / plain:.1f} times as long as a plain copy of the folder")
    state.metadata.close()


def limits(folder: Path, kind: str, url: str) -> None:
    metadata = Metadata(url)
    token = new_token()
    metadata.tokens.add("bench", token, frozenset({Scope.STORE}), quotas=Quotas(requests_per_minute=10**9))
    caller = authenticate(metadata, token.text, Scope.STORE)
    plain = median(lambda: authenticate(metadata, token.text, Scope.STORE), 200)
    full = median(lambda: metadata.rates.admit_request(caller), 200)
    count = iter(range(10**9))

    def ask() -> None:
        now = time.time()
        metadata.questions.admit(caller, Question("m", "p", 1, f"{next(count)}", now, now + 60, None, asked=now))

    admit = median(ask, 200)
    print(
        f"{kind}: a token is checked in {plain * 1e3:.2f} ms; a request counted against a limit a minute takes "
        f"{full * 1e3:.2f} ms ({full / plain:.1f} times that), a query with its nonce {admit * 1e3:.2f} ms"
    )
    metadata.close()


def rows(folder: Path) -> None:
    path = folder / "rows.sqlite3"
    metadata = Metadata(f"sqlite:///{path}")
    token = new_token()
    metadata.tokens.add("bench", token, frozenset({Scope.STORE}))
    caller = authenticate(metadata, token.text, Scope.STORE)
    metadata.rows.settle()
    empty = path.stat().st_size
    for number in range(ROWS):
        blob = f"objects/{caller.client_id}/{number:032x}"
        metadata.objects.add(caller, ObjectRecord(os.urandom(16).hex(), blob, 1, "0" * 64, 1.0))
    metadata.rows.settle()
    print(f"rows: {(path.stat().st_size - empty) / ROWS:.0f} bytes of database for each version of an object")
    metadata.close()
    log = AuditLog(folder / "audit.jsonl")
    for number in range(200):
        log.append("object.get", client="c" * 32, request_id=f"{number:016x}", outcome="ok", object="a" * 32, start=0)
    print(f"audit: {(folder / 'audit.jsonl').stat().st_size / 200:.0f} bytes for each line")


def main() -> None:
    """Run all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scrubbing_and_backup(folder)
        rows(folder)
        limits(folder, "SQLite", f"sqlite:///{folder / 'limits.sqlite3'}")
        programs = services.postgres_programs()
        if programs is not None:
            with services.postgres(programs) as running:
                limits(folder, "PostgreSQL (without fsync)", running.database())


if __name__ == "__main__":
    main()
