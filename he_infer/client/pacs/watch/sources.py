"""Sources of the watcher's images: an archive that is asked, or a folder that a storage SCP fills."""

from pathlib import Path
from typing import Protocol

from he_infer.client.pacs.archive.dicomweb import Archive
from he_infer.client.pacs.archive.orthanc import OrthancChanges
from he_infer.client.pacs.entries import ImageEntry
from he_infer.client.pacs.watch.journal import Journal


class Source(Protocol):
    """Finds studies, lists their images and fetches one."""

    def look(self, journal: Journal, now: float) -> None:
        """Note in the journal which studies there are and how large they are."""

    def images(self, study: str) -> tuple[int, list[ImageEntry]]:
        """How many objects a study has now, and its images."""

    def fetch(self, image: ImageEntry, path: Path) -> Path:
        """Put an image into a file of the watcher's own."""

    def release(self, image: ImageEntry) -> None:
        """The image is done: what was kept of it for the watcher alone may go."""


class ArchiveSource:
    """Studies of a DICOMweb archive, found by query; those that Orthanc calls stable are known sooner.

    Orthanc forgets which studies are still to become stable when it ends. The query finds those, too.

    Args:
        archive: where to ask.
        since: earliest study date, `YYYYMMDD`; empty for all.
        sweep_seconds: between two queries for all studies, where Orthanc tells of changes in between; without its
            list, every look is a query.
    """

    def __init__(self, archive: Archive, since: str = "", *, sweep_seconds: float = 300.0) -> None:
        self._archive = archive
        self._filters = {"StudyDate": f"{since}-"} if since else {}
        self._sweep_seconds = sweep_seconds
        self._next_sweep = 0.0
        self._changes: OrthancChanges | None = None
        self._asked_for_changes = bool(since)  # the list of changes knows no dates

    def look(self, journal: Journal, now: float) -> None:
        """Note new and grown studies.

        Raises:
            ArchiveUnreachable, ArchiveRefused: the archive does not say.
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
        """The study's size first, so that an image which comes meanwhile makes it grow again."""
        size = self._archive.count_images(study)
        return size, self._archive.images(study) if size else []

    def fetch(self, image: ImageEntry, path: Path) -> Path:
        """Fetch by WADO."""
        return self._archive.fetch(image, path)

    def release(self, image: ImageEntry) -> None:
        """Nothing is kept."""
