"""Disks and processes that fail in the middle of a write: the old file or the new file is there, never a mixture."""

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from cipher.container.api import open_bytes, open_file, rekey_file, seal_bytes, seal_file
from cipher.errors import StorageProblem
from cipher.files.atomic import TEMPORARY_SUFFIX
from cipher.keys.vault_key import VaultKey

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))
ROOT = Path(__file__).parents[2]

posix = pytest.mark.skipif(os.name != "posix", reason="signals, forks and limits as POSIX has them")


def run(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@posix
@pytest.mark.parametrize(
    ("what", "least"),
    [
        ("seal", 80),
        ("restore", 60),
        ("rekey", 40),
        ("share", 40),
        ("save", 15),
        pytest.param("dicom", 150, marks=pytest.mark.slow),
    ],
)
def test_kill_at_any_line_of_a_write_leaves_a_whole_object(what: str, least: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.killed_writer", what, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= least
    if what not in ("rekey", "share"):  # which write in place
        assert any(path.name.endswith(TEMPORARY_SUFFIX) for path in tmp_path.iterdir()), "some died in mid-write"


@posix
def test_kill_at_random_times_leaves_a_whole_object(tmp_path: Path) -> None:
    """From outside, by the clock: the kill may fall inside a system call."""
    old, new = bytes(3_000_000), os.urandom(3_000_000)
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    plain.write_bytes(new)
    sealed.write_bytes(seal_bytes(old, KEY))
    code = """
        import sys
        from cipher.container.api import rekey_file, seal_file
        from cipher.keys.vault_key import VaultKey
        key, other = VaultKey(bytes(range(32))), VaultKey(bytes(32))
        print("ready", flush=True)
        while True:
            seal_file(sys.argv[1], sys.argv[2], key)
            rekey_file(sys.argv[2], key, other)
            rekey_file(sys.argv[2], other, key)
    """
    rng = random.Random(1)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(plain), str(sealed)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        rekey_file(sealed, OTHER, KEY)
        assert open_bytes(sealed.read_bytes(), KEY) in (old, new)


@posix
def test_a_file_that_may_not_grow_is_a_clear_error_and_changes_nothing(tmp_path: Path) -> None:
    """The error comes from the kernel: RLIMIT_FSIZE lets the write fail after 100,000 bytes."""
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    plain.write_bytes(os.urandom(300_000))
    sealed.write_bytes(seal_bytes(b"old", KEY))
    code = """
        import resource, sys
        from cipher.container.api import seal_file
        from cipher.errors import StorageProblem
        from cipher.keys.vault_key import VaultKey
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            seal_file(sys.argv[1], sys.argv[2], VaultKey(bytes(range(32))))
        except StorageProblem as error:
            print(error)
    """
    done = run(code, str(plain), str(sealed))
    assert done.returncode == 0, done.stderr
    assert "File too large. Nothing was changed." in done.stdout
    assert open_bytes(sealed, KEY) == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "sealed"]


def _may_mount() -> bool:
    try:
        done = subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"],
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(not _may_mount(), reason="needs unshare and the right to mount a tmpfs of one's own")
def test_a_full_disk_is_a_clear_error_and_changes_nothing(tmp_path: Path) -> None:
    """A real disk of 256 KiB: sealing, restoring and saving each fill it."""
    code = """
        import subprocess, sys
        from pathlib import Path
        folder, plain = Path(sys.argv[1]), Path(sys.argv[2])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], check=True)
        from cipher.container.api import open_bytes, open_file, seal_bytes, seal_file
        from cipher.errors import StorageProblem
        from cipher.keys.vault_key import VaultKey
        key = VaultKey(bytes(range(32)))
        sealed, back = folder / "sealed", folder / "back"
        sealed.write_bytes(seal_bytes(b"old", key))
        back.write_bytes(b"older")
        large = plain.with_name("large sealed")
        large.write_bytes(seal_bytes(plain.read_bytes(), key))
        for work in (lambda: seal_file(plain, sealed, key), lambda: open_file(large, back, key)):
            try:
                work()
            except StorageProblem as error:
                print(error)
        assert open_bytes(sealed, key) == b"old"
        assert back.read_bytes() == b"older"
        assert len(list(folder.iterdir())) == 2
        seal_file(back, sealed, key)
        assert open_bytes(sealed, key) == b"older"
    """
    plain = tmp_path / "plain"
    plain.write_bytes(os.urandom(400_000))
    disk = tmp_path / "disk"
    disk.mkdir()
    done = run(code, str(disk), str(plain), prefix=("unshare", "-rm"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("No space left on device. Nothing was changed.") == 2


@pytest.mark.skipif(not _may_mount(), reason="needs unshare and the right to mount a tmpfs of one's own")
def test_sharing_needs_no_space_and_says_that_a_disk_cannot_be_written(tmp_path: Path) -> None:
    """A real disk of 64 KiB, first full, then mounted for reading alone."""
    code = """
        import subprocess, sys
        from pathlib import Path
        folder = Path(sys.argv[1])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=True)
        from cipher.container.api import seal_bytes
        from cipher.errors import StorageProblem
        from cipher.keys.passphrase import ARGON2ID, Cost
        from cipher.keys.recipient_key import RecipientKey
        from cipher.keys.vault_key import VaultKey
        from cipher.vault.checking import Sharing, Unsharing
        from cipher.vault.find import Found
        key, doctor = VaultKey(bytes(range(32))), RecipientKey.generate()
        (folder / "object").write_bytes(seal_bytes(b"old", key))
        try:
            (folder / "filling").write_bytes(bytes(1 << 20))
        except OSError as error:
            print(error.strerror)
        try:
            doctor.save(folder / "doctor.key", "words", cost=Cost(ARGON2ID, 64, 1, 1))
        except StorageProblem as error:
            print(error)
        found = Found(folder / "object", "object", 0)
        share = Sharing(key, (doctor.public.public_bytes_raw(),))
        print(share(found, lambda count: None).did.value)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for work in (share, Unsharing(key, (doctor.key_id,))):
            try:
                work(found, lambda count: None)
            except StorageProblem as error:
                print(error)
        print(sorted(path.name for path in folder.iterdir()))
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    done = run(code, str(disk), prefix=("unshare", "-rm"))
    assert done.returncode == 0, done.stderr
    full, key, shared, *refused, left = done.stdout.splitlines()
    assert (full, shared, left) == ("No space left on device", "shared", "['filling', 'object']")
    assert key.startswith("Cannot write ")
    assert refused == [f"Cannot change {disk / 'object'}: Read-only file system."] * 2


@pytest.mark.parametrize("call", ["fdatasync", "replace"])
def test_an_error_while_flushing_or_renaming_changes_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    plain.write_bytes(b"new")
    sealed.write_bytes(seal_bytes(b"old", KEY))

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageProblem, match="Input/output error"):
        seal_file(plain, sealed, KEY)
    assert open_bytes(sealed, KEY) == b"old"
    assert len(list(tmp_path.iterdir())) == 2


def test_two_writers_at_once_show_a_reader_whole_objects_only(tmp_path: Path) -> None:
    """Each sealing wins or loses whole; the reader never meets anything else."""
    sealed = tmp_path / "sealed"
    payloads = [bytes([number]) * 200_000 for number in range(2)]
    sources = [tmp_path / f"plain {number}" for number in range(2)]
    for source, payload in zip(sources, payloads, strict=True):
        source.write_bytes(payload)
    seal_file(sources[0], sealed, KEY)
    errors: list[BaseException] = []

    def write(source: Path) -> None:
        try:
            for _ in range(12):
                seal_file(source, sealed, KEY)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        open_file(sealed, tmp_path / "back", KEY)
        assert (tmp_path / "back").read_bytes() in payloads
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(tmp_path.iterdir())) == 4


@posix
def test_two_rekeys_at_once_leave_one_key(tmp_path: Path) -> None:
    """Different new keys: the lock puts one after the other, so that the second finds its old key gone."""
    sealed = tmp_path / "sealed"
    others = [VaultKey(bytes([number]) * 32) for number in range(1, 6)]
    for _ in range(10):
        sealed.write_bytes(seal_bytes(b"x", KEY))
        outcomes: list[str] = []

        def rekey(new: VaultKey, outcomes: list[str] = outcomes) -> None:
            try:
                rekey_file(sealed, KEY, new)
                outcomes.append(new.key_id)
            except Exception as error:  # an exception in a thread would be lost; only WrongKey passes below
                outcomes.append(type(error).__name__)

        threads = [threading.Thread(target=rekey, args=(new,)) for new in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count("WrongKey") == 4
        winner = next(key for key in others if key.key_id in outcomes)
        assert open_bytes(sealed, winner) == b"x"
