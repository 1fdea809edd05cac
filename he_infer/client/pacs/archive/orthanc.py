"""Orthanc's list of changes: finds new and stable studies without querying all studies each time."""

from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID

from he_infer.client.pacs.archive.dicomweb import Archive
from he_infer.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable

_PAGE = 200
_MOST_PAGES = 1000


@dataclass(frozen=True)
class Changes:
    """Changes since a position in the list."""

    stable: tuple[str, ...]
    """Study Instance UIDs of the studies that received no object for Orthanc's `StableAge`."""
    position: int
    """Position to continue from."""


class OrthancChanges:
    """The REST resource `/changes` of the Orthanc whose DICOMweb service an archive is.

    Args:
        archive: an archive whose URL ends in the DICOMweb plugin's path.
        root: root URL of Orthanc's REST API.
    """

    def __init__(self, archive: Archive, root: str) -> None:
        self._archive = archive
        self._root = root.rstrip("/")

    @staticmethod
    def find(archive: Archive) -> "OrthancChanges | None":
        """Get the list of changes, if the archive is an Orthanc that offers it.

        Raises:
            ArchiveUnreachable: there is no connection.
        """
        root = archive.url.removesuffix("/dicom-web")
        if root == archive.url:
            return None
        try:
            said = archive.get_json(f"{root}/changes?limit=1")
        except ArchiveUnreachable:
            raise
        except ArchiveError:
            return None
        return OrthancChanges(archive, root) if isinstance(said, dict) and "Changes" in said else None

    def since(self, position: int) -> Changes:
        """Find the studies that became stable after a position. If Orthanc restarted its list, reads it from the start.

        Raises:
            ArchiveUnreachable, ArchiveRefused: the list cannot be read.
        """
        newest = self._page("last")["Last"]
        if newest < position:
            position = 0
        stable: dict[str, None] = {}
        for _ in range(_MOST_PAGES):
            page = self._page(f"since={position}&limit={_PAGE}")
            for change in page["Changes"]:
                if change.get("ChangeType") == "StableStudy":
                    study = self._study(str(change.get("ID", "")))
                    if study:
                        stable[study] = None
            if page["Last"] < position or (not page["Done"] and page["Last"] == position):
                raise ArchiveRefused("Orthanc's list of changes does not move on. Restart Orthanc.")
            position = page["Last"]
            if page["Done"]:
                return Changes(tuple(stable), position)
        return Changes(tuple(stable), position)

    def _page(self, query: str) -> dict[str, Any]:
        match self._archive.get_json(f"{self._root}/changes?{query}"):
            case {"Changes": list(changes), "Last": int(last), "Done": bool(done)}:
                return {"Changes": [item for item in changes if isinstance(item, dict)], "Last": last, "Done": done}
            case _:
                raise ArchiveRefused("Orthanc's list of changes has another form than expected.")

    def _study(self, identifier: str) -> str:
        """Study Instance UID for Orthanc's identifier of a study; empty if the study was deleted."""
        if not identifier.replace("-", "").isalnum():
            raise ArchiveRefused("Orthanc's list of changes has another form than expected.")
        try:
            said = self._archive.get_json(f"{self._root}/studies/{identifier}")
        except ArchiveUnreachable:
            raise
        except ArchiveError:
            return ""
        tags = said.get("MainDicomTags", {}) if isinstance(said, dict) else {}
        study = str(tags.get("StudyInstanceUID", ""))
        return study if UID(study).is_valid else ""
