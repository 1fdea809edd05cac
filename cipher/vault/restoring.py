"""Restoring sealed objects: each file where it was, below a target folder, through no link, and never over another."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from numpy.lib import format as npy

from cipher.container.header import Kind, Segment
from cipher.container.opening import Opening
from cipher.container.sealing import Progress
from cipher.container.unlock import OpeningKey
from cipher.errors import AlreadyExists, CipherError, StorageProblem
from cipher.files.atomic import PRIVATE, atomic_write, write_link
from cipher.files.tree import enter, folds_case
from cipher.vault.find import Found, Sort
from cipher.vault.forms import original_bytes, sealed_container
from cipher.vault.names import Parts, Wanted, assign_places, from_stored, split
from cipher.vault.outcome import Did, Outcome
from cipher.vault.protecting import Versions, admit


@dataclass(frozen=True, slots=True)
class Restoring:
    """Work on a sealed object: write its content below a folder, at its stored path and with its time."""

    folder: Path
    key: OpeningKey = field(repr=False)
    overwrite: bool = False
    versions: Versions = field(default_factory=dict)
    places: Mapping[Path, Parts] = field(default_factory=dict)
    """Sealed object -> its place below the folder, as `plan` assigned it; the stored path where there is none."""
    frames: tuple[int, int] | None = None
    """The first frame, and the one after the last: only these are read, and become a NumPy file."""

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Restore one object; an array becomes a NumPy file.

        Raises:
            As `cipher.vault.forms.open_path`; StorageProblem also where another file or a link is in the way.
        """
        with sealed_container(found.path) as (inner, bound):
            opening = Opening(inner, self.key, associated=bound)
            admit(self.versions, opening.version)
            stored = _stored_path(opening, found)
            asked = split(stored)
            parts = self.places.get(found.path, asked)
            if self.frames is not None:
                return self._restore_frames(opening, found, parts, *self.frames)
            target = self.folder.joinpath(*parts)
            did = self._restore(opening, found.path, parts, target, moved)
        note = "" if parts == asked else f"restored as {'/'.join(parts)}, as its own name could not be used here"
        size = opening.header.payload_bytes
        return Outcome(did, str(target), opening.version, size, found.size, note=note, stored=stored)

    def _restore(self, opening: Opening, source: Path, parts: Parts, target: Path, moved: Progress) -> Did:
        private = opening.opened.private
        match private.get("sort", Sort.FILE):
            case Sort.FOLDER:
                there = target.is_dir()
                with enter(self.folder, parts):
                    return Did.ALREADY_THERE if there else Did.RESTORED
            case Sort.LINK:
                with enter(self.folder, parts[:-1]) as folder:
                    return self._restore_link(from_stored(private.get("link", "")), target, folder)
        with enter(self.folder, parts[:-1]) as folder:
            if not self.overwrite and _is_there(target, folder):
                if not _holds(_content(opening, source), target, folder, moved):
                    raise _in_the_way(target)
                return Did.ALREADY_THERE
            try:
                with atomic_write(target, mode=PRIVATE, replace=self.overwrite, folder=folder) as handle:
                    for piece in _content(opening, source):
                        handle.write(piece)
                        moved(len(piece))
                    _set_time(handle, private)
            except AlreadyExists:  # it came while this was being written
                raise _in_the_way(target) from None
        return Did.RESTORED

    def _restore_frames(self, opening: Opening, found: Found, parts: Parts, first: int, last: int) -> Outcome:
        pixels = opening.frames(first, last)
        parts = (*parts[:-1], f"{parts[-1]}.frames-{first}-{last}.npy")
        target = self.folder.joinpath(*parts)
        content = io.BytesIO()
        npy.write_array(content, pixels, allow_pickle=False)
        did = Did.RESTORED
        with enter(self.folder, parts[:-1]) as folder:
            try:
                with atomic_write(target, mode=PRIVATE, replace=self.overwrite, folder=folder) as handle:
                    handle.write(content.getbuffer())
            except AlreadyExists:
                if not _holds([content.getbuffer()], target, folder):
                    raise _in_the_way(target) from None
                did = Did.ALREADY_THERE
        return Outcome(did, str(target), opening.version, pixels.nbytes, found.size)

    def _restore_link(self, link: str, target: Path, folder: int | None) -> Did:
        try:
            write_link(target, link, replace=self.overwrite, folder=folder)
        except AlreadyExists:
            if not _is_link_to(target, link, folder):
                raise _in_the_way(target) from None
            return Did.ALREADY_THERE
        return Did.RESTORED


def plan(
    objects: Sequence[Found], key: OpeningKey, folder: Path
) -> tuple[dict[Path, Parts], list[tuple[Found, CipherError]]]:
    """Give each object a place of its own below `folder`, before anything is written.

    Two objects that were sealed from the same file share their place; of others no two do.

    Args:
        objects: sealed objects.
        key: opens them.
        folder: the target, which exists.

    Returns:
        Sealed object -> place, and the objects that cannot be opened with why.

    Raises:
        StorageProblem: the target cannot be written.
    """
    wanted: dict[Path, Wanted] = {}
    failures: list[tuple[Found, CipherError]] = []
    for found in objects:
        try:
            with sealed_container(found.path) as (inner, bound):
                opening = Opening(inner, key, associated=bound)
            owner = opening.opened.private.get("origin") or opening.version.object_id
            is_folder = opening.opened.private.get("sort") == Sort.FOLDER
            wanted[found.path] = Wanted(split(_stored_path(opening, found)), owner, is_folder)
        except CipherError as error:
            failures.append((found, error))
    places = assign_places(list(wanted.values()), windows=os.name == "nt", folding=folds_case(folder))
    return {path: places[item] for path, item in wanted.items()}, failures


def _stored_path(opening: Opening, found: Found) -> str:
    name = opening.opened.private.get("path") or opening.opened.name or found.path.stem
    return name + (".npy" if opening.header.kind is Kind.ARRAY else "")


def _content(opening: Opening, source: Path) -> Iterator[bytes | memoryview]:
    """Bytes to write for an object: the original file's, after a NumPy header where it is an array."""
    if opening.header.kind is Kind.ARRAY:
        yield _npy_header(opening.header.segments[0])
    yield from original_bytes(opening, source)


def _in_the_way(target: Path) -> StorageProblem:
    return StorageProblem(f"{target} is there already and is another file; give --overwrite to replace it.")


def _is_there(target: Path, folder: int | None) -> bool:
    try:
        os.stat(_name(target, folder), dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _holds(
    pieces: Iterable[bytes | memoryview], target: Path, folder: int | None, moved: Progress = lambda count: None
) -> bool:
    """Whether a file holds exactly these pieces; a link or a folder does not.

    Raises:
        Damaged: they come from an object that was changed.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(_name(target, folder), flags, dir_fd=folder)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "rb") as handle:
            for piece in pieces:
                if handle.read(len(piece)) != piece:
                    return False
                moved(len(piece))
            return not handle.read(1)
    except OSError:
        return False


def _is_link_to(target: Path, link: str, folder: int | None) -> bool:
    try:
        return os.readlink(_name(target, folder), dir_fd=folder) == link
    except OSError:
        return False


def _name(target: Path, folder: int | None) -> str:
    return target.name if folder is not None else str(target)


def _set_time(handle: BinaryIO, private: Mapping[str, str]) -> None:
    """Set the time when the original file was last changed, where that was sealed with it."""
    try:
        modified = int(private["modified_ns"])
    except (KeyError, ValueError):
        return
    if os.utime in os.supports_fd:
        handle.flush()  # or the bytes still in the buffer would move the time again
        os.utime(handle.fileno(), ns=(modified, modified))


def _npy_header(segment: Segment) -> bytes:
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": segment.dtype, "fortran_order": False, "shape": segment.shape})
    return header.getvalue()
