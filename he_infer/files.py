"""Atomic writing of files: a file appears whole, durable and with its final mode, or not at all.

Every file that he_infer and experiments leave behind is written here, so that a crash or a full disk never leaves half
of one. The content is not interpreted.
"""

import errno
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

PRIVATE = 0o600
"""Mode of secrets and of results: readable and writable by their owner alone."""
SHARED = 0o666
"""Mode of files that others may read, as far as the umask allows."""


def write_bytes(path: Path, data: bytes, *, mode: int = SHARED, replace: bool = True) -> None:
    """Write a file whole or not at all, and sync it and its folder.

    Args:
        path: the file; its folder must exist.
        data: its content.
        mode: permission bits, before the umask.
        replace: whether an existing file is replaced. With False the write fails where a file exists, even if another
            process makes it in the meantime.

    Raises:
        FileExistsError: the file exists and `replace` is False.
        OSError: the folder is missing or not writable, or the disk is full.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            # A link, unlike a rename, fails where the name is taken.
            os.link(temporary, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # the temporary name would mean nothing to a user
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def expect_writable(*paths: Path | None) -> None:
    """Refuse files that could not be written later; called before work whose result would be lost.

    Args:
        paths: files to be written; None is left out.

    Raises:
        OSError: a file is a folder, or its folder is missing or not writable for this user.
    """
    for path in paths:
        if path is None:
            continue
        folder = path.resolve().parent
        if path.is_dir():
            problem, named = errno.EISDIR, path
        elif not folder.is_dir():
            problem, named = errno.ENOENT, folder
        elif not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            problem, named = errno.EACCES, path
        else:
            continue
        raise OSError(problem, os.strerror(problem), str(named))


def write_text(path: Path, text: str, *, mode: int = SHARED) -> None:
    """Write UTF-8 text; see `write_bytes`.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    write_bytes(path, text.encode(), mode=mode)


def write_json(path: Path, figures: Mapping[str, object], *, mode: int = SHARED) -> None:
    """Write a JSON object, indented; see `write_bytes`.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    write_text(path, json.dumps(dict(figures), indent=2, ensure_ascii=False) + "\n", mode=mode)


def append_text(path: Path, text: str, *, mode: int = PRIVATE) -> None:
    """Add text to the end of a file, which is made where it is missing; durable afterwards.

    Raises:
        OSError: the file cannot be written.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


def sync(path: Path) -> None:
    """Write a file's content, or a folder's entries, to the disk (fsync), so that a power cut does not lose them.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
