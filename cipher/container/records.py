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

    def seal(self, plain: Buffer, target: memoryview) -> None:
        """Write the next record into `target`, which has 16 bytes more than `plain`."""
        nonce, associated = self._next()
        self._sealing.encrypt_into(nonce, plain, associated, target)

    def open(self, sealed: Buffer, target: memoryview) -> None:
        """Write the content of the next record into `target`, after its tag has been verified.

        Raises:
            Damaged: it was changed, or is not the record that belongs here.
        """
        nonce, associated = self._next()
        try:
            self._sealing.decrypt_into(nonce, sealed, associated, target)
        except (InvalidTag, ValueError):  # a ValueError where the file was cut since its length was read
            raise Damaged(
                "The sealed object was changed after it was sealed, and is not restored. Take it from a backup."
            ) from None

    def skip_to(self, number: int) -> None:
        """Go on with record `number`."""
        self._number = number

    def _next(self) -> tuple[bytes, bytes]:
        number = self._number.to_bytes(8, "little")
        self._number += 1
        last = bytes([self._number == self._count])
        return number + bytes(3) + last, self._commitment + number + last
