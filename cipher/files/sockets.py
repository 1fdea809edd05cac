"""A folder for the sockets of worker processes, whose paths a system limits to about a hundred bytes."""

import multiprocessing.util
import os
import tempfile

SOCKET_PATH_BYTES = 100
"""Longest path of a Unix socket that every system takes: Linux allows 107 bytes, macOS 103."""
_NAME_BYTES = 40
"""Bytes that multiprocessing adds to the temporary folder's path: its own folder and the socket's name."""


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
