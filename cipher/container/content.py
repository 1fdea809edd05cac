"""The content that is sealed: bytes in memory, or a file too large for it, which is read twice and compared."""

from collections.abc import Iterator
from typing import BinaryIO

from cipher.algorithm.gmac import Gmac, hash_whole
from cipher.container.arena import Arena
from cipher.container.chunks import WHOLE, Chunk, cut
from cipher.container.header import Header
from cipher.container.records import Buffer
from cipher.errors import SourceChanged
from cipher.keys.vault_key import VaultKey

_READ = 1 << 20


class Memory:
    """Content that is held in memory: it cannot change between being hashed and being sealed."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)

    def hash(self, vault_key: VaultKey) -> bytes:
        """Digest of the content, for the object's randomness."""
        return hash_whole(vault_key.content_key(), self._data)

    def cut(self, header: Header) -> Iterator[tuple[Chunk, Buffer]]:
        """The chunks and their bytes."""
        at = 0
        for chunk in cut(header):
            yield chunk, self._data[at : at + chunk.nbytes]
            at += chunk.nbytes


class File:
    """Content that is too large to hold: it is read twice, and compared."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def hash(self, vault_key: VaultKey) -> bytes:
        """Digest of the content, for the object's randomness."""
        found = Gmac(vault_key.content_key())
        self._again = Gmac(vault_key.content_key())
        self._source.seek(0)
        while piece := self._source.read(_READ):
            found.update(piece)
        self._digest = found.digest()
        return self._digest

    def cut(self, header: Header) -> Iterator[tuple[Chunk, Buffer]]:
        """The chunks and their bytes.

        Raises:
            SourceChanged: they are not what was hashed.
        """
        self._source.seek(0)
        for chunk in cut(header):
            piece = self._source.read(chunk.nbytes)
            self._again.update(piece)
            if len(piece) != chunk.nbytes:
                raise _explain_change()
            yield chunk, piece
        if self._source.read(1) or self._again.digest() != self._digest:
            raise _explain_change()


def read_content(source: BinaryIO | memoryview, length: int, arena: Arena) -> Memory | File:
    """The content of `length` bytes: a file of up to 64 MiB is read now, into the arena's third buffer.

    Raises:
        SourceChanged: the file has another length.
    """
    if isinstance(source, memoryview):
        return Memory(source)
    if length > WHOLE:
        return File(source)
    source.seek(0)
    whole = arena.third(length + 1)
    count = 0
    while added := source.readinto(whole[count:]):  # type: ignore[attr-defined]  # BinaryIO lacks what files have
        count += added
    if count != length:
        raise _explain_change()
    return Memory(whole[:length])


def _explain_change() -> SourceChanged:
    return SourceChanged(
        "The file changed while it was being sealed; nothing was kept. Try again when nothing writes to it."
    )
