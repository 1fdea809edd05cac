"""Opening a sealed object as a stream: from an open file, in memory bounded by a chunk."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cipher.container.arena import Arena
from cipher.container.beginning import read_beginning
from cipher.container.chunks import Chunk, count_chunks, cut
from cipher.container.enciphering import decipher_chunk
from cipher.container.header import TAG_SIZE, Kind, parse_padded_names
from cipher.container.recipients import check, list_recipients
from cipher.container.records import Records
from cipher.container.sealing import Progress
from cipher.container.unlock import OpeningKey, unlock
from cipher.container.version import ObjectVersion
from cipher.errors import BadSpan, ContextMismatch, Damaged


@dataclass(frozen=True, slots=True)
class Opened:
    """Authenticated fields of an opened object, besides the payload."""

    kind: Kind
    version: ObjectVersion
    name: str | None
    private: dict[str, str]
    labels: dict[str, str]


class Opening:
    """A sealed object whose header and private names have been verified, and whose payload is still to be read."""

    def __init__(
        self,
        source: BinaryIO,
        key: OpeningKey,
        *,
        associated: bytes = b"",
        expect: ObjectVersion | None = None,
    ) -> None:
        """Unwrap the data key, verify the header and the recipients, open the private names.

        Raises:
            WrongKey, Damaged, UnsupportedFormat, UnsupportedVersion: about the object.
            ContextMismatch: `associated` is not what was bound when it was sealed.
            Replayed: not the object, or an older version than expected.
        """
        beginning = read_beginning(source)
        header = beginning.header
        _, self._keys = unlock(beginning, key)
        check(beginning.recipients, self._keys)
        if header.associated_digest != hashlib.sha256(associated).digest():
            raise ContextMismatch(
                "The sealed object is intact, but what surrounds it is not what it was sealed with: attributes were "
                "changed, or it was moved from elsewhere."
            )
        self.version = ObjectVersion(header.object_id.hex(), header.object_version)
        if expect is not None:
            expect.admit(self.version)
        self.header = header
        self.recipients = list_recipients(beginning.recipients)
        self._source = source
        self._records = Records(self._keys.sealing, beginning.commitment, beginning.records)
        names = bytearray(header.private_length)
        self._records.open(source.read(header.private_length + TAG_SIZE), memoryview(names))
        private = parse_padded_names(bytes(names))
        name = private.pop("name", None)
        self.opened = Opened(header.kind, self.version, name, private, dict(header.labels))

    def verify(self, progress: Progress | None = None) -> None:
        """Check every tag of the payload, without deciphering it.

        Raises:
            Damaged: a record was changed.
        """
        with Arena.borrow() as arena:
            for chunk in cut(self.header):
                self._open(chunk, arena)
                if progress:
                    progress(chunk.nbytes)

    def payload(self) -> Iterator[memoryview]:
        """The payload's chunks, each after its tag has been verified. An error may come after some were given.

        Each chunk is to be used before the next is asked for: they share their memory.

        Raises:
            Damaged: a record was changed.
        """
        with Arena.borrow() as arena:
            for number, chunk in enumerate(cut(self.header)):
                yield self._decipher(chunk, number, arena, arena.second(chunk.enciphered_bytes))

    def read_into(self, whole: memoryview) -> None:
        """Write the whole payload into memory of its size. After an error nothing in it is to be used.

        Raises:
            Damaged: a record was changed.
        """
        done = 0
        with Arena.borrow() as arena:
            for number, chunk in enumerate(cut(self.header)):
                room = whole[done : done + chunk.nbytes]
                if chunk.nbytes == chunk.enciphered_bytes:
                    self._decipher(chunk, number, arena, room)
                else:
                    room[:] = self._decipher(chunk, number, arena, arena.second(chunk.enciphered_bytes))
                done += chunk.nbytes

    def frames(self, first: int, last: int) -> NDArray[np.generic]:
        """Frames `first` to `last - 1` of the image, counted from 0; only the groups that hold them are read.

        Returns:
            (last - first, ...) pixels. Booleans come as bytes 0 and 1.

        Raises:
            BadSpan: the object's pixels are not sealed by frames, or there are no such frames.
            Damaged: a record was changed.
        """
        pixels = self.header.pixel_segment()
        group = self.header.frames
        if self.header.kind is Kind.REGION:
            raise BadSpan("The sealed object holds a region of an image, not its frames; restore it whole.")
        if pixels is None or not group:
            raise BadSpan("The sealed object holds no image of several frames; restore it whole.")
        if not 0 <= first < last <= pixels.frames:
            raise BadSpan(f"The image has the frames 0 to {pixels.frames - 1}; asked for {first} to {last - 1}.")
        found, skipped = bytearray(), -1
        with Arena.borrow() as arena:
            for number, chunk in enumerate(cut(self.header)):
                begins = (number - self._first_of_pixels()) * group
                size = chunk.enciphered_bytes + TAG_SIZE
                if chunk.shape[1:] != pixels.shape[1:] or begins + chunk.shape[0] <= first or begins >= last:
                    self._source.seek(size, os.SEEK_CUR)
                    continue
                self._records.skip_to(number + 1)
                found += self._decipher(chunk, number, arena, arena.second(chunk.enciphered_bytes))
                if skipped < 0:
                    skipped = (first - begins) * pixels.frame_bytes
                if begins + chunk.shape[0] >= last:
                    break
        wanted = found[skipped : skipped + (last - first) * pixels.frame_bytes]
        return np.frombuffer(wanted, pixels.dtype).reshape(last - first, *pixels.shape[1:])

    def _first_of_pixels(self) -> int:
        """Number of the first chunk of pixels."""
        return (
            0
            if self.header.segments[0].pixels
            else count_chunks(replace(self.header, segments=self.header.segments[:1]))
        )

    def _decipher(self, chunk: Chunk, number: int, arena: Arena, plain: memoryview) -> memoryview:
        return decipher_chunk(self._open(chunk, arena), chunk, self._keys, self.header.salt, number, plain)

    def _open(self, chunk: Chunk, arena: Arena) -> memoryview:
        enciphered = arena.first(chunk.enciphered_bytes)
        sealed = arena.second(chunk.enciphered_bytes + TAG_SIZE)
        if self._source.readinto(sealed) != len(sealed):  # type: ignore[attr-defined]  # BinaryIO lacks what files have
            raise Damaged("The sealed object was cut while it was read; restore it from a backup.")
        self._records.open(sealed, enciphered)
        return enciphered
