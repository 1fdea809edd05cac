"""Description of a sealed object, without a key and without opening it.

Nothing here is authenticated: anybody could have written it.
"""

from dataclasses import dataclass
from typing import BinaryIO

from cipher.container.beginning import Source, read_beginning, reading
from cipher.container.header import Kind
from cipher.container.recipients import ListedRecipient, list_recipients
from cipher.container.version import ObjectVersion


@dataclass(frozen=True, slots=True)
class Description:
    """Fields of a sealed object's public header. They are authentic only once the object has been opened."""

    kind: Kind
    version: ObjectVersion
    """Identifier and version of the object."""
    key_ids: tuple[str, ...]
    """Ids of the vault keys that open it: one, or two while a rekey is under way."""
    recipients: tuple[ListedRecipient, ...]
    """Public keys that open it besides."""
    recipient_slots: int
    """Number of recipient slots."""
    frames: int
    """Frames in a group that can be opened by itself; 0 where there are none."""
    dtype: str | None
    """Type of the pixels as numpy's type string; none for an opaque file."""
    shape: tuple[int, ...] | None
    """Shape of the pixels."""
    payload_bytes: int
    """Bytes that opening gives back."""
    sealed_bytes: int
    """Bytes of the sealed object."""
    chunks: int
    """Number of chunks of the payload."""
    bound: bool
    """Whether something outside the object is bound to it, without which it does not open."""
    labels: dict[str, str]
    """Public names, chosen when the object was sealed."""


def describe(source: Source) -> Description:
    """Describe a sealed object.

    Args:
        source: a path, or the object's bytes.

    Raises:
        UnsupportedFormat: not a sealed object.
        UnsupportedVersion: written by a later release.
        Damaged: its header is not one that could have been written.
        StorageProblem: it cannot be read.
    """
    with reading(source) as handle:
        return describe_stream(handle)


def describe_stream(handle: BinaryIO) -> Description:
    """As `describe`, for an object that is open for reading.

    Raises:
        As `describe`, but OSError where it cannot be read.
    """
    beginning = read_beginning(handle)
    header = beginning.header
    slots = beginning.parsed_slots()
    pixels = header.pixel_segment()
    return Description(
        kind=header.kind,
        version=ObjectVersion(header.object_id.hex(), header.object_version),
        key_ids=tuple(slot.key_id.hex() for slot in slots if slot is not None),
        recipients=tuple(list_recipients(beginning.recipients)),
        recipient_slots=header.recipients,
        frames=header.frames,
        dtype=pixels.dtype if pixels else None,
        shape=pixels.shape if pixels else None,
        payload_bytes=header.payload_bytes,
        sealed_bytes=beginning.length,
        chunks=beginning.records - 1,
        bound=header.is_bound,
        labels=dict(header.labels),
    )
