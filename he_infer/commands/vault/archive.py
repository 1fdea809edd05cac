"""Sealed DICOM objects into an image archive, and out of it again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from he_infer.terminal import show_progress

if TYPE_CHECKING:
    from cipher.keys.vault_key import VaultKey
    from he_infer.client.pacs.archive.dicomweb import Archive


def store_sealed(archive: "Archive", paths: Sequence[Path]) -> int:
    """Store sealed objects byte for byte; gives their number. An object that the archive holds already is left alone.

    Raises:
        ArchiveUnreachable, ArchiveRefused: not all were stored; the command can be repeated.
    """
    with show_progress("Storing in the archive") as show:
        for number, path in enumerate(paths, 1):
            archive.store_file(path)
            show(number, len(paths))
    return len(paths)


def fetch_sealed(archive: "Archive", studies: Sequence[str], vault_key: "VaultKey | None", folder: Path) -> list[Path]:
    """Fetch the sealed objects of studies into a folder.

    Args:
        archive: the archive that holds them.
        studies: Study Instance UIDs, of the originals or of the sealed objects.
        vault_key: finds the sealed study of an original one; without it, sealed studies alone are found.
        folder: receives the files.

    Raises:
        ArchiveUnreachable, ArchiveRefused: the archive does not hold such a study, or does not give it.
    """
    from cipher.dicom.uids import study_pseudonym
    from he_infer.errors import ArchiveRefused

    found = []
    for study in studies:
        held = archive.images(study_pseudonym(study, vault_key)) if vault_key is not None else []
        held = held or archive.images(study)
        if not held:
            raise ArchiveRefused(
                f"The archive holds no sealed study {study}. What was sealed with --unlinkable is found by its own UID."
            )
        found += held
    with show_progress("Fetching from the archive") as show:
        paths = []
        for number, image in enumerate(found):
            paths.append(archive.fetch(image, folder / f"{number}.dcm"))
            show(number + 1, len(found))
    return paths
