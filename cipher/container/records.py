"""Records: the AES-256-GCM pieces of a sealed object's body, whose order, number and end are authenticated.

Record n has the nonce (n as u64, three zero bytes, 1 if it is the last else 0), unique because the key is the object's
own, and as associated data the commitment (hence the header), n as u64, and the same flag (the STREAM construction of
Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
"""

from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cipher.errors import Damaged

Buffer: TypeAlias = bytes | bytearray | memoryview


class Records:
    """Seals or opens an object's records, in order."""

    def __init__(self, sealing: AESGCM, commitment: bytes, count: int) -> None:
        """For an object of `count` records (at least one)."""
        self._sealing = sealing
        self._commitment = commitment
        self._count = count
        self._number = 0

    def seal(self, plain: Buffer) -> bytes:
        """The next record: 16 bytes longer than `plain`."""
        nonce, associated = self._next()
        return self._sealing.encrypt(nonce, plain, associated)

    def open(self, sealed: Buffer) -> bytes:
        """What the next record holds, after its tag has been verified.

        Raises:
            Damaged: it was changed, or is not the record that belongs here.
        """
        nonce, associated = self._next()
        try:
            return self._sealing.decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise Damaged(
                "The sealed object was changed after it was sealed, and is not restored. Take it from a backup."
            ) from None

    def _next(self) -> tuple[bytes, bytes]:
        number = self._number.to_bytes(8, "little")
        self._number += 1
        last = bytes([self._number == self._count])
        return number + bytes(3) + last, self._commitment + number + last
