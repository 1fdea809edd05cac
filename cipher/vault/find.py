"""Search for items to work on: files, links and empty folders. Other things are passed over, with the reason.

Links inside a folder are found as links and never followed. A link that is named itself is followed, as its user
means the file. Knows nothing of sealed objects.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cipher.errors import StorageProblem
from cipher.files.atomic import is_unfinished


class Sort(StrEnum):
    """Kind of a found item."""

    FILE = "file"
    LINK = "link"
    FOLDER = "folder"
    """A folder with nothing in it."""


@dataclass(frozen=True, slots=True)
class Found:
    """An item to work on."""

    path: Path
    inside: str
    """Its path from the folder that was asked for, which included, with slashes."""
    size: int
    """Bytes; for a link the length of its target's name, for a folder 0."""
    sort: Sort = Sort.FILE

    @property
    def origin(self) -> str:
        """The absolute path with links resolved, except a link that is the item itself."""
        return str(self.path.parent.resolve() / self.path.name)


@dataclass(frozen=True, slots=True)
class Survey:
    """Items found at and under some paths."""

    found: list[Found] = field(default_factory=list)
    passed_over: list[tuple[Path, str]] = field(default_factory=list)
    """Paths that are not worked on, and why: pipes, sockets, devices, unfinished writes."""
    problems: list[tuple[Found, StorageProblem]] = field(default_factory=list)
    """Folders that cannot be listed, files whose state cannot be read."""


def survey(paths: Iterable[Path], *, leave_out: Iterable[Path] = ()) -> Survey:
    """All items at and under some paths, in the order of their names, each once.

    Args:
        paths: files and folders.
        leave_out: files, and folders with all that is in them, that are passed over without a word.

    Raises:
        StorageProblem: a path does not exist, or nothing was found.
    """
    seen = Survey()
    skipped = {path.resolve() for path in leave_out}
    paths = list(paths)
    for path in paths:
        if path.is_dir():
            _walk(path, skipped, seen)
        elif path.is_file():
            seen.found.append(Found(path, path.name, path.stat().st_size))
        elif path.is_symlink():
            seen.found.append(_link(path, path.name))
        elif path.exists():
            raise StorageProblem(f"{path} is neither a file nor a folder ({_describe(path.stat().st_mode)}).")
        else:
            raise StorageProblem(f"There is no file or folder {path}.")
    once = {found.origin: found for found in reversed(seen.found)}
    seen.found[:] = [found for found in seen.found if once[found.origin] is found]
    if not seen.found and not seen.problems:
        raise StorageProblem(f"No file to work on in {', '.join(str(path) for path in paths)}.")
    return seen


def _walk(top: Path, skipped: set[Path], seen: Survey) -> None:
    base = top.resolve()

    def inside(path: Path) -> str:
        return "/".join((base.name or "root", *path.relative_to(base).parts))

    def note(error: OSError) -> None:
        path = Path(error.filename)
        problem = StorageProblem(f"Cannot list {path}: {error.strerror}. Give yourself the right to read it.")
        seen.problems.append((Found(path, inside(path), 0, Sort.FOLDER), problem))

    for folder, folders, names in os.walk(base, onerror=note):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links and here / name not in skipped)
        if here != base and not folders and not names and not links:
            seen.found.append(Found(here, inside(here), 0, Sort.FOLDER))
        for name in sorted([*names, *links]):
            path = here / name
            if path in skipped:
                continue
            if is_unfinished(name):
                seen.passed_over.append((path, "an unfinished write of he-infer"))
                continue
            _look_at(path, inside(path), seen)


def _look_at(path: Path, inside: str, seen: Survey) -> None:
    try:
        state = path.lstat()
    except OSError as error:
        problem = StorageProblem(f"Cannot read {path}: {error.strerror}.")
        seen.problems.append((Found(path, inside, 0), problem))
        return
    if stat.S_ISREG(state.st_mode):
        seen.found.append(Found(path, inside, state.st_size))
    elif stat.S_ISLNK(state.st_mode):
        seen.found.append(_link(path, inside))
    else:
        seen.passed_over.append((path, _describe(state.st_mode)))


def _link(path: Path, inside: str) -> Found:
    return Found(path, inside, len(os.fsencode(path.readlink())), Sort.LINK)


def _describe(mode: int) -> str:
    for test, what in (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    ):
        if test(mode):
            return what
    return "no regular file"
