"""Sources of the watcher's images: an archive that is queried, or a folder that a storage SCP fills."""

from pathlib import Path
from typing import Protocol

from he_infer.client.pacs.archive.dicomweb import Archive
from he_infer.client.pacs.archive.orthanc import OrthancChanges
from he_infer.client.pacs.entries import ImageEntry
from he_infer.client.pacs.watch.journal import Journal


class Source(Protocol):
    """Finds studies, lists their images and fetches one."""

    def look(self, journal: Journal, now: float) -> None:
        """Note all studies and their sizes in the journal."""

    def images(self, study: str) -> tuple[int, list[ImageEntry]]:
        """Present number of a study's objects, and its images."""

    def fetch(self, image: ImageEntry, path: Path) -> Path:
        """Copy an image into the watcher's work folder."""

    def release(self, image: ImageEntry) -> None:
        """Delete the source's copy of an image that is done."""


class ArchiveSource:
    """Studies of a DICOMweb archive, found by query. Orthanc's list of changes names stable studies sooner.

    When Orthanc restarts, it forgets the studies that were not stable yet. The query finds those, too.

    Args:
        archive: the archive to query.
        since: earliest study date, `YYYYMMDD`; empty for all.
        sweep_seconds: interval of the queries for all studies, if Orthanc's list of changes is read in between; without
            the list, every look is a query.
    """

    def __init__(self, archive: Archive, since: str = "", *, sweep_seconds: float = 300.0) -> None:
        self._archive = archive
        self._filters = {"StudyDate": f"{since}-"} if since else {}
        self._sweep_seconds = sweep_seconds
        self._next_sweep = 0.0
        self._changes: OrthancChanges | None = None
        self._asked_for_changes = bool(since)  # the list of changes holds no study dates

    def look(self, journal: Journal, now: float) -> None:
        """Note new and grown studies.

        Raises:
            ArchiveUnreachable, ArchiveRefused: the query failed.
        """
        if not self._asked_for_changes:
            self._changes = OrthancChanges.find(self._archive)
            self._asked_for_changes = True
        if self._changes is not None:
            changes = self._changes.since(int(journal.mark("changes") or 0))
            journal.see_stable(changes.stable, now, ("changes", str(changes.position)))
        if self._changes is None or now >= self._next_sweep:
            journal.see_studies(self._archive.studies(self._filters), now)
            self._next_sweep = now + self._sweep_seconds

    def images(self, study: str) -> tuple[int, list[ImageEntry]]:
        """Read the study's size first: if an image arrives meanwhile, the study counts as grown again."""
        size = self._archive.count_images(study)
        return size, self._archive.images(study) if size else []

    def fetch(self, image: ImageEntry, path: Path) -> Path:
        """Fetch by WADO."""
        return self._archive.fetch(image, path)

    def release(self, image: ImageEntry) -> None:
        """Do nothing: this source keeps no copy."""
