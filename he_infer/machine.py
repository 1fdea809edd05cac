"""Facts about this machine that several parts ask for."""

import multiprocessing.util
import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SOCKET_PATH_BYTES = 100
"""Longest path of a Unix socket that every system takes: Linux allows 107 bytes, macOS 103."""
_NAME_BYTES = 40
"""Bytes that multiprocessing adds to the temporary folder's path: its own folder and the socket's name."""


def usable_cores() -> int:
    """Number of processor cores that this process may use, at least 1.

    Linux lets an administrator bind a process to some of the cores; macOS and Windows have no such call.
    """
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes in this block that Ctrl-C in a terminal does not reach: their parent decides when they end.

    A terminal sends SIGINT to every process of a group; one that is still loading its modules would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # before the block: where multiprocessing starts it, it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def find_boot_id() -> str:
    """Return a text that is the same until this machine restarts, and another after that.

    Systems without Linux's boot id get another one at each call, as if they had restarted.
    """
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def shorten_socket_folder() -> None:
    """Let multiprocessing keep its sockets in a short folder where TMPDIR's path is too long for a socket.

    Clusters and build systems set such paths. Call it before the first fork server starts; files that go to the
    temporary folder otherwise still go to TMPDIR.
    """
    if len(os.fsencode(tempfile.gettempdir())) + _NAME_BYTES <= SOCKET_PATH_BYTES:
        return
    before = tempfile.tempdir
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp makes a private one
        if folder and len(os.fsencode(folder)) + _NAME_BYTES <= SOCKET_PATH_BYTES and os.access(folder, os.W_OK):
            tempfile.tempdir = folder
            try:
                multiprocessing.util.get_temp_dir()  # kept by multiprocessing for all its sockets
            finally:
                tempfile.tempdir = before
            return
