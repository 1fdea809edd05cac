"""Destinations of the watcher's reports: an archive by STOW, or a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

from he_infer.client.pacs.archive.dicomweb import Archive
from he_infer.client.pacs.reports.kinds import write_reports


class Destination(Protocol):
    """Stores reports. Storing the same report twice leaves one."""

    def store(self, reports: Sequence[Dataset]) -> None:
        """Store reports durably before returning."""


class ArchiveDestination:
    """Stores reports in an archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def store(self, reports: Sequence[Dataset]) -> None:
        """Store by STOW.

        Raises:
            ArchiveUnreachable, ArchiveRefused: not all were stored.
        """
        self._archive.store(reports)


class FolderDestination:
    """Writes reports into a folder as DICOM files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, reports: Sequence[Dataset]) -> None:
        """Write files named by their SOP Instance UIDs.

        Raises:
            OSError, StorageProblem: a file cannot be written.
        """
        write_reports(self._folder, reports)
