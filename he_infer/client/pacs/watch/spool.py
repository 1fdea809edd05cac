"""The folder between the storage SCP, which fills it, and the watcher, which empties it.

An object is stored as two files: `<name>.dcm`, and `<name>.json` with its UIDs and the attributes that a choice depends
on, which is written last. Names are digests, so that no text from a sender becomes a path.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from cipher.files.atomic import write_bytes
from he_infer.client.pacs.entries import ImageEntry, StudyEntry
from he_infer.client.pacs.watch.journal import Journal
from he_infer.errors import ArchiveRefused

INCOMING = "incoming"
"""Subfolder of objects that are still arriving."""


class Spool:
    """A spool folder, created with mode 0700 if missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in (folder, folder / INCOMING):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, image: ImageEntry, file: Path) -> None:
        """Move a received file into the spool. An earlier copy of the same object is replaced.

        Raises:
            OSError, StorageProblem: the file cannot be written, for instance for lack of space.
        """
        name = self._name(image.sop)
        file.replace(name.with_suffix(".dcm"))
        write_bytes(name.with_suffix(".json"), json.dumps(asdict(image)).encode())

    def entries(self) -> Iterator[tuple[ImageEntry, int]]:
        """All objects with their times of arrival, nanoseconds."""
        for path in sorted(self.folder.glob("*.json")):
            try:
                arrived = path.stat().st_mtime_ns
                entry = ImageEntry(**json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, RecursionError):
                continue
            yield entry, arrived

    def file(self, sop: str) -> Path:
        """Path of an object."""
        return self._name(sop).with_suffix(".dcm")

    def remove(self, sop: str) -> None:
        """Remove an object; its description first, so that no description is left without an object."""
        self._name(sop).with_suffix(".json").unlink(missing_ok=True)
        self.file(sop).unlink(missing_ok=True)

    def sizes(self) -> tuple[int, int]:
        """Number of objects, and their total size in bytes."""
        sizes = [path.stat().st_size for path in self.folder.glob("*.dcm") if path.exists()]
        return len(sizes), sum(sizes)

    def _name(self, sop: str) -> Path:
        return self.folder / sha256(sop.encode()).hexdigest()[:40]


class SpoolSource:
    """A spool as a source of the watcher."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def look(self, journal: Journal, now: float) -> None:
        """Note the studies in the spool, and remove objects that were done before a crash.

        The time of the latest arrival serves as the study's size: it changes with every arrival and never otherwise.
        """
        latest: dict[str, int] = {}
        for entry, arrived in self._spool.entries():
            if journal.is_done(entry.sop):
                self._spool.remove(entry.sop)
            else:
                latest[entry.study] = max(latest.get(entry.study, 0), arrived)
        journal.see_studies([StudyEntry(study, arrived) for study, arrived in latest.items()], now)

    def images(self, study: str) -> tuple[int, list[ImageEntry]]:
        """Time of the study's latest arrival, and its objects."""
        found = [(entry, arrived) for entry, arrived in self._spool.entries() if entry.study == study]
        return max((arrived for _, arrived in found), default=0), [entry for entry, _ in found]

    def fetch(self, image: ImageEntry, path: Path) -> Path:
        """Path of the image's file in the spool; nothing is copied.

        Raises:
            ArchiveRefused: the file is no longer in the spool.
        """
        file = self._spool.file(image.sop)
        if not file.exists():
            raise ArchiveRefused(f"The received image {image.sop} is no longer in the spool. Send it again.")
        return file

    def release(self, image: ImageEntry) -> None:
        """Remove the image from the spool."""
        self._spool.remove(image.sop)
