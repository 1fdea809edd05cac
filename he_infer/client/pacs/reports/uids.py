"""UIDs of reports, derived with a secret of the hospital: the same result always gets the same UID.

Storing a report twice leaves one object in the archive, even after an interruption. Nobody without the secret can
predict a report's UID and occupy it, or link an image to its report by the UID alone.
"""

import hmac
import uuid

SECRET_BYTES = 32


class ReportUids:
    """Derives UIDs of the form `2.25.<integer>` (PS3.5 B.2) by HMAC-SHA-256.

    Args:
        secret: 32 bytes that stay the same for the whole life of the installation.

    Raises:
        ValueError: the secret has another length.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"The secret of report UIDs has {len(secret)} bytes; expected {SECRET_BYTES}.")
        self._secret = secret

    def __repr__(self) -> str:
        return "ReportUids()"

    def derive(self, purpose: str, *parts: str) -> str:
        """Derive the UID of these parts for this purpose, at most 44 characters.

        Each part is hashed with its length, so that two different lists of parts never give the same input.
        """
        texts = [part.encode() for part in (purpose, *parts)]
        message = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
        digest = bytearray(hmac.digest(self._secret, message, "sha256")[:16])
        digest[6] = digest[6] & 0x0F | 0x80  # version 8 of RFC 9562: a UUID with application-defined bits
        digest[8] = digest[8] & 0x3F | 0x80
        return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"
