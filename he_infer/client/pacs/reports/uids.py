"""UIDs of reports, derived with a secret of the hospital's, so that the same result always gets the same UID.

Storing a report twice leaves one object in the archive, whatever was interrupted in between. Nobody without the secret
can foresee a report's UID and occupy it, or link an image to its report by the UID alone.
"""

import hmac
import uuid

SECRET_BYTES = 32


class ReportUids:
    """Derives UIDs of the form `2.25.<integer>` (PS3.5 B.2) by HMAC-SHA-256.

    Args:
        secret: 32 bytes that stay the same for the whole life of the installation.

    Raises:
        ValueError: a secret of another length.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"The secret of report UIDs has {len(secret)} bytes; expected {SECRET_BYTES}.")
        self._secret = secret

    def __repr__(self) -> str:
        return "ReportUids()"

    def derive(self, purpose: str, *parts: str) -> str:
        """The UID of these parts for this purpose: at most 44 characters.

        Every part enters with its length, so that no two lists of parts run together.
        """
        texts = [part.encode() for part in (purpose, *parts)]
        message = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
        digest = bytearray(hmac.digest(self._secret, message, "sha256")[:16])
        digest[6] = digest[6] & 0x0F | 0x80  # version 8 of RFC 9562: a UUID whose bits are its maker's own
        digest[8] = digest[8] & 0x3F | 0x80
        return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"
