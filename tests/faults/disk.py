"""A full disk, and one that turns read-only, on private file systems that are made and unmounted here."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from he_infer.client.connection.session import Session
from he_infer.local_server import LocalServer
from he_infer.server.evidence import audit_log as audit
from he_infer.server.service import AUDIT_FILE
from tests.faults.kit import Everyday, alive, run, soon, timed, unmount
from tests.faults.outcome import Outcome
from tests.he_infer.server.support.kit import client_of

OPTIONS = ["--workers", "1"]
_SIZE = 24 << 20


def full(bundle: Path, folder: Path, steps: int, seed: int = 5) -> Outcome:
    """Fill the disk, keep asking, free it, keep asking, and look for lost data."""
    outcome = Outcome()
    everyday = Everyday(bundle, outcome, seed, largest=900_000)
    with timed(outcome), _tmpfs(folder) as mounted:
        ballast = mounted / "ballast"
        ballast.write_bytes(bytes(3 << 20))
        with (
            LocalServer([bundle], mounted / "data", options=OPTIONS) as server,
            client_of(server, patience=0) as client,
        ):
            while everyday.try_step(client):
                outcome.injected["steps until full"] += 1
            for _ in range(steps):
                everyday.try_step(client)
                outcome.injected["steps on a full disk"] += 1
            outcome.server_deaths += not alive(server)
            ballast.unlink()
            answered = soon(lambda: everyday.try_step(client))
            outcome.odd += [] if answered else ["no request was answered after room was given back"]
            everyday.audit(client.session)
            outcome.server_deaths += not alive(server)
            token = server.token
        audit.verify(mounted / "data" / AUDIT_FILE)
        with (
            LocalServer([bundle], mounted / "data", token=token, options=OPTIONS) as again,
            Session(again.url, token, patience=0) as session,
        ):
            everyday.audit(session)
    outcome.notes["objects kept"] = len(everyday.kept)
    return outcome


def read_only(bundle: Path, folder: Path, steps: int, seed: int = 6) -> Outcome:
    """Have the kernel turn a file system read-only, as it does at an error of the disk, under a running server."""
    outcome = Outcome()
    everyday = Everyday(bundle, outcome, seed, largest=100_000)
    with timed(outcome), _ext4(folder) as (mounted, break_it):
        server = LocalServer([bundle], mounted / "data", options=OPTIONS).start()
        try:
            with client_of(server, patience=0) as client:
                for _ in range(20):
                    everyday.step(client)
                break_it()
                outcome.injected["the disk turns read-only"] += 1
                for _ in range(steps):
                    answered = everyday.try_step(client)
                    if answered and everyday.doing in ("store", "register"):
                        outcome.odd.append(f"acknowledged on a read-only disk: {everyday.doing}")
                outcome.server_deaths += not alive(server)
        finally:
            server.stop()
        token = server.token
        _remount(mounted)
        with (
            LocalServer([bundle], mounted / "data", token=token, options=OPTIONS) as again,
            Session(again.url, token, patience=0) as session,
        ):
            everyday.audit(session)
            outcome.lost += not {keys.plan for keys in session.key_sets()}
    outcome.notes["objects kept"] = len(everyday.kept)
    return outcome


@contextmanager
def _tmpfs(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0700", "he-infer-test", str(folder))
    try:
        yield folder
    finally:
        unmount(folder)


@contextmanager
def _ext4(folder: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A file system in a file, and a function that has the kernel report an error on it."""
    folder.mkdir(parents=True, exist_ok=True)
    image, mounted = folder / "image", folder / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", str(image))
    run("mount", "-o", "loop,errors=remount-ro", str(image), str(mounted))

    def break_it() -> None:
        source = next(line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if str(mounted) in line)
        Path(f"/sys/fs/ext4/{Path(source).name}/trigger_fs_error").write_text("a test\n")
        assert soon(lambda: _refuses_writes(mounted))

    try:
        yield mounted, break_it
    finally:
        unmount(mounted)


def _remount(mounted: Path) -> None:
    """Unmount, check and mount again, as an operator would."""
    image = mounted.parent / "image"
    unmount(mounted)
    run("sh", "-c", f"e2fsck -fy '{image}' >/dev/null 2>&1; test $? -le 1")
    run("mount", "-o", "loop", str(image), str(mounted))


def _refuses_writes(mounted: Path) -> bool:
    try:
        (mounted / "probe").write_bytes(b"x")
    except OSError as error:
        return error.errno == errno.EROFS
    return False
