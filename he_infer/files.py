"""Atomic writing of files: a file appears whole, durable and with its final mode, or not at all.

Every file that he_infer and experiments leave behind is written here, so that a crash or a full disk never leaves half
of one. The content is not interpreted.
"""

import errno
import json
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from he_infer.errors import UsageError

PRIVATE = 0o600
"""Mode of secrets and of results: readable and writable by their owner alone."""
SHARED = 0o666
"""Mode of files that others may read, as far as the umask allows."""


def write_bytes(path: Path, data: bytes, *, mode: int = SHARED, replace: bool = True) -> None:
    """Write a file whole or not at all, and sync it and its folder.

    A device, a pipe or an open file (/dev/null, /dev/stdout, /dev/fd/3) is written to, and never replaced.

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
    if replace and _is_special(path):
        with path.open("wb") as file:
            file.write(data)
        return
    temporary = _name_temporary(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            _link(temporary, path)
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
        OSError: a file is a folder, its name is too long, or its folder is missing or not writable for this user.
    """
    for path in paths:
        if path is None or _is_special(path):
            continue
        folder = path.resolve().parent
        if path.is_dir():
            problem, named = errno.EISDIR, path
        elif not folder.is_dir():
            problem, named = errno.ENOENT, folder
        elif not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            problem, named = errno.EACCES, path
        else:
            with suppress(FileNotFoundError):
                path.lstat()  # fails for a name that is too long
            continue
        raise OSError(problem, os.strerror(problem), str(named))


def expect_file(path: Path) -> None:
    """Refuse a pipe or a device where a file is read more than once: a second reading would wait for its other end.

    A path that does not exist is left to the reader.

    Raises:
        UsageError: it is one.
    """
    if _is_special(path):
        raise UsageError(f"{path} is a pipe, a device or another special file; a file was expected.")


def write_text(path: Path, text: str, *, mode: int = SHARED) -> None:
    """Write UTF-8 text; see `write_bytes`. Bytes of file names that are not UTF-8 become escapes, valid in JSON.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    write_bytes(path, text.encode(errors="backslashreplace"), mode=mode)


def write_json(path: Path, figures: Mapping[str, object], *, mode: int = PRIVATE) -> None:
    """Write a JSON object, indented, for its owner alone: as a rule it names patients' files; see `write_bytes`.

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
        file.write(text.encode(errors="backslashreplace"))
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


def _is_special(path: Path) -> bool:
    """Whether a path is a device, a pipe, or a name of an open file such as /dev/stdout or /dev/fd/1."""
    try:
        mode = path.stat().st_mode
        link = path.readlink() if path.is_symlink() else Path()
    except OSError:
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return True
    return any(str(place).startswith("/proc/") for place in (link, path.parent.resolve()))


def _name_temporary(path: Path) -> Path:
    # Of the name 40 characters, which are at most 160 bytes: file systems count bytes.
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.tmp")


def _link(temporary: Path, path: Path) -> None:
    """Give a file its name, unless the name is taken: a link, unlike a rename, then fails."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # No links here (FAT, some network file systems): reserve the name, then rename over the reservation.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
        temporary.replace(path)


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
