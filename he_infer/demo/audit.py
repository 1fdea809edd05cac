"""The audit: searches the cloud for plaintext and the hospital for the head, and checks the search with controls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from he_infer.demo.plaintext import (
    KINDS,
    REAL_KINDS,
    choose_plants,
    collect_pieces,
    collect_weight_pieces,
    list_originals,
)
from he_infer.demo.scan import Hit, ObjectKind, Source, list_sources, plant, scan
from models.datasets import Dataset


@dataclass(frozen=True)
class AuditLine:
    """Counts of pieces of one kind of plaintext."""

    kind: str
    pieces: int
    found: int
    """Pieces found on the untrusted side; 0 where the server is blind."""
    in_originals: int | None
    """Pieces that the same scan finds in the hospital's own data; None for the invented identifier."""
    planted: int
    planted_found: int
    """Planted pieces that the same scan finds in the copies of the server's objects."""


@dataclass(frozen=True)
class Audit:
    """The outcome."""

    lines: tuple[AuditLine, ...]
    objects: int
    bytes_read: int
    """Bytes of the objects on the untrusted side."""
    object_kinds: tuple[ObjectKind, ...]
    hits: tuple[Hit, ...]
    """Pieces found on the untrusted side, with their places."""
    too_short: int
    """Different identifiers of fewer than six bytes, which were not looked for."""

    @property
    def pieces(self) -> int:
        """Different pieces that were looked for."""
        return sum(line.pieces for line in self.lines)

    @property
    def found(self) -> int:
        """Different pieces that were found on the untrusted side."""
        return sum(line.found for line in self.lines)

    @property
    def control(self) -> tuple[int, int]:
        """Pieces found in the originals, of those that are there."""
        real = [line for line in self.lines if line.in_originals is not None]
        return sum(line.in_originals or 0 for line in real), sum(line.pieces for line in real)

    @property
    def plants(self) -> tuple[int, int]:
        """Planted pieces that were found, of all that were planted."""
        return sum(line.planted_found for line in self.lines), sum(line.planted for line in self.lines)


@dataclass(frozen=True)
class HeadAudit:
    """Counts of the search for the head's weights at the hospital."""

    pieces: int
    """Different pieces of the head's weights that were looked for."""
    in_hospital: int
    """Pieces found in the hospital's folder; 0 where the parts are separate."""
    in_cloud: int
    """Pieces that the same scan finds in the cloud's part; it must find all."""


def audit_hospital(folder: Path, server_part: Path, head: Mapping[str, NDArray[np.generic]]) -> HeadAudit:
    """Look for the head's weights, as float32 and float64, in every file of the hospital's folder.

    Args:
        folder: everything that the hospital has.
        server_part: the cloud's part of the model, for the positive control.
        head: the head's tensors by name.
    """
    pieces = collect_weight_pieces(head)
    here = {hit.piece for hit in scan(list_sources(folder), pieces).hits}
    there = {hit.piece for hit in scan([Source(server_part.name, server_part)], pieces).hits}
    return HeadAudit(len(pieces), len(here), len(there))


def audit_server(
    folder: Path,
    dataset: Dataset,
    features: NDArray[np.float32],
    scores: NDArray[np.float64],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Look for the hospital's plaintext in every file below the server's folder, with two positive controls.

    The controls are the same scan over the originals, which must find every piece, and over copies of the server's
    objects with one piece hidden in each, which must find every planted piece.

    Args:
        folder: everything that the untrusted side stored, received and sent.
        dataset: the images in clear.
        features: (n, width) of the test images.
        scores: (n, classes) in clear.
        seed: decides where pieces are planted.
        progress: takes the bytes read and the bytes to read, over all three scans.
    """
    pieces, too_short = collect_pieces(dataset, features, scores)
    chosen = choose_plants(pieces)
    held = list_sources(folder)
    originals = list_originals(dataset, features, scores)
    copies = plant(held, chosen, np.random.default_rng(seed))
    sizes = [sum(source.size for source in sources) for sources in (held, originals, copies)]

    def move(place: int) -> Callable[[int, int], None]:
        before = sum(sizes[:place])
        return lambda done, _: None if progress is None else progress(before + done, sum(sizes))

    seen = scan(held, pieces, move(0))
    control = scan(originals, pieces, move(1))
    found_plants = {hit.piece for hit in scan(copies, pieces, move(2)).hits}
    lines = []
    for kind in KINDS:
        planted = [piece for piece in chosen if piece.kind == kind]
        lines.append(
            AuditLine(
                kind=kind,
                pieces=sum(piece.kind == kind for piece in pieces),
                found=seen.count_found(kind),
                in_originals=control.count_found(kind) if kind in REAL_KINDS else None,
                planted=len(planted),
                planted_found=sum(piece in found_plants for piece in planted),
            )
        )
    return Audit(tuple(lines), seen.objects, seen.bytes_read, seen.kinds, seen.hits, too_short)
