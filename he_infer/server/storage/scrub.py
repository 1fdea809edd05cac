"""Compares the store with the database: scrub, repair from a backup, and removal of orphans."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from he_infer.server.metadata import BlobRecord, Metadata
from he_infer.server.storage.blobs import Blobs
from he_infer.wire.refusals import Code, Refused

ORPHAN_AGE = timedelta(hours=1)
"""Younger blobs without a row may belong to a request that is being answered."""


@dataclass
class Findings:
    """The outcome of a scrub. Paths are the server's own and reveal nothing of the content."""

    blobs: int = 0
    """Blobs that the database names and that were read through."""
    bytes: int = 0
    missing: list[BlobRecord] = field(default_factory=list)
    damaged: list[BlobRecord] = field(default_factory=list)
    """Blobs whose size or SHA-256 differs from the record, or that cannot be read."""
    orphans: list[str] = field(default_factory=list)
    """Paths older than `ORPHAN_AGE` that no row names: a killed server left them, and a running one removes them."""

    @property
    def whole(self) -> bool:
        """True where everything that was acknowledged is there and intact."""
        return not self.missing and not self.damaged


def scrub(
    metadata: Metadata,
    blobs: Blobs,
    *,
    orphan_age: timedelta = ORPHAN_AGE,
    progress: Callable[[int], None] = lambda _: None,
) -> Findings:
    """Read every blob through and compare its size and SHA-256 with the database's; the server may run meanwhile.

    Args:
        metadata: the database.
        blobs: the store that it describes.
        orphan_age: how old a blob without a row must be to count.
        progress: called with the bytes of each blob read.

    Raises:
        Refused: `storage` where the database or the store as a whole cannot be read.
    """
    findings = Findings()
    for record in metadata.blobs.named():
        found = _digest(blobs, record.path)
        if found != (record.size, record.sha256) and metadata.blobs.unnamed([record.path]):
            continue  # deleted by its client since the page was read
        findings.blobs += 1
        if found is None:
            findings.missing.append(record)
        elif found != (record.size, record.sha256):
            findings.damaged.append(record)
        findings.bytes += record.size
        progress(record.size)
    for page in blobs.pages(older_than=orphan_age):
        findings.orphans += metadata.blobs.unnamed(page)
    return findings


def repair(findings: Findings, blobs: Blobs, source: Blobs) -> list[BlobRecord]:
    """Restore the blobs that a scrub found missing or damaged from another store, such as a backup's.

    Args:
        findings: result of `scrub`; restored blobs are taken out of it.
        blobs: the store to mend.
        source: where the same blobs may lie, under the same paths; what differs from the database's SHA-256 is not
            taken.

    Returns:
        The restored blobs.

    Raises:
        Refused: `storage`.
    """
    mended = []
    for records in (findings.missing, findings.damaged):
        for record in list(records):
            if source.digest(record.path) != (record.size, record.sha256):
                continue
            with tempfile.NamedTemporaryFile(prefix="he-infer-repair-") as file:
                for piece in source.stream(record.path, 0, record.size):
                    file.write(piece)
                file.flush()
                blobs.delete(record.path)
                blobs.put_new(record.path, Path(file.name))
            records.remove(record)
            mended.append(record)
    return mended


def remove_orphans(metadata: Metadata, blobs: Blobs, *, orphan_age: timedelta = ORPHAN_AGE) -> int:
    """Remove blobs that no row names, left behind where a server died between storing and recording; returns how many.

    Raises:
        Refused: `storage`.
    """
    removed = blobs.drop_leftovers(older_than=orphan_age)
    for prefix in ("objects", "keys"):
        for page in blobs.pages(prefix, older_than=orphan_age):
            for path in metadata.blobs.unnamed(page):
                blobs.delete(path)
                removed += 1
    return removed


def _digest(blobs: Blobs, path: str) -> tuple[int, str] | None:
    try:
        return blobs.digest(path)
    except Refused as refused:
        if refused.code is not Code.STORAGE:
            raise
        blobs.ping()  # the store as a whole is away: that is no finding about this blob
        return -1, "unreadable"
