"""Reading a sealed object's beginning from an open file, and checking its length against what it announces."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from cipher.container.chunks import count_chunks, sealed_size
from cipher.container.header import (
    COMMITMENT_SIZE,
    PREFIX,
    RECIPIENT_SIZE,
    RECIPIENTS_AT,
    SLOT_SIZE,
    SLOTS,
    SLOTS_AT,
    TAG_SIZE,
    Header,
    Slot,
    parse_header,
    parse_prefix,
    parse_slot,
)
from cipher.errors import Damaged, StorageProblem

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview
"""A path, or the object's bytes."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Everything before the body."""

    header: Header
    prefix_bytes: bytes
    header_bytes: bytes
    slots: tuple[bytes, bytes]
    """Both key slots, as they stand in the object."""
    recipients: tuple[bytes, ...]
    """The recipient slots, as they stand in the object."""
    commitment: bytes
    records: int
    """Records in the body: the private names and the chunks."""
    body_at: int
    length: int
    """Bytes of the whole object."""

    def parsed_slots(self) -> list[Slot | None]:
        """The key slots.

        Raises:
            Damaged: one of them is neither empty nor intact.
        """
        return [parse_slot(slot) for slot in self.slots]


def read_beginning(source: BinaryIO) -> Beginning:
    """Parse everything before the body, and check the object's length; leaves `source` at the body.

    Raises:
        UnsupportedFormat, UnsupportedVersion: not a sealed object of this release.
        Damaged: changed, cut off or extended.
    """
    length = source.seek(0, os.SEEK_END)
    source.seek(0)
    prefix = source.read(PREFIX.size)
    kind, header_length, recipients = parse_prefix(prefix)
    header_at = recipient_position(recipients)
    body_at = header_at + header_length + COMMITMENT_SIZE
    if length < body_at:
        raise Damaged("The sealed object is cut off within its header; restore it from a backup.")
    rest = source.read(body_at - PREFIX.size)
    slots = rest[: SLOTS * SLOT_SIZE]
    area = rest[SLOTS * SLOT_SIZE : header_at - PREFIX.size]
    header_bytes = rest[header_at - PREFIX.size : -COMMITMENT_SIZE]
    header = parse_header(kind, header_bytes, recipients)
    records = 1 + count_chunks(header)
    expected = body_at + header.private_length + TAG_SIZE + sealed_size(header)
    if length != expected:
        raise Damaged(
            f"The sealed object has {length} bytes and should have {expected}: "
            f"{'cut off' if length < expected else 'something was added'}. Restore it from a backup."
        )
    return Beginning(
        header=header,
        prefix_bytes=prefix,
        header_bytes=header_bytes,
        slots=(slots[:SLOT_SIZE], slots[SLOT_SIZE:]),
        recipients=tuple(area[at : at + RECIPIENT_SIZE] for at in range(0, len(area), RECIPIENT_SIZE)),
        commitment=rest[-COMMITMENT_SIZE:],
        records=records,
        body_at=body_at,
        length=length,
    )


def slot_position(index: int) -> int:
    """Offset of a key slot."""
    return SLOTS_AT + index * SLOT_SIZE


def recipient_position(index: int) -> int:
    """Offset of a recipient slot; the public header begins after the last one."""
    return RECIPIENTS_AT + index * RECIPIENT_SIZE


@contextmanager
def reading(source: Source) -> Iterator[BinaryIO]:
    """A path or bytes as a file open for reading.

    Raises:
        StorageProblem: it cannot be opened or read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
        return
    try:
        with Path(source).open("rb") as handle:
            yield handle
    except OSError as error:
        raise StorageProblem(f"Cannot read {os.fspath(source)}: {error.strerror or error}.") from error
