"""Signed receipts: the server signs each answer's receipt with its Ed25519 key.

A receipt binds an answer to a request, a model and a plan, so that neither side can deny or exchange them later. It
does not prove that the computation is correct.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from he_infer.errors import NotThisFormat
from he_infer.files import PRIVATE, write_bytes
from he_infer.wire.envelope import receipt_message


class Signer:
    """Signs receipts.

    Args:
        private: the server's signing key.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes_raw().hex()

    @staticmethod
    def load_or_create(path: Path) -> "Signer":
        """Read the 32 raw bytes of a signing key, or make them with mode 0600 where there is no such file.

        Raises:
            NotThisFormat: the file is not a raw Ed25519 key.
            OSError: it cannot be read or written.
        """
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another server on the same folder made it first
                write_bytes(path, Ed25519PrivateKey.generate().private_bytes_raw(), mode=PRIVATE, replace=False)
        raw = path.read_bytes()
        if len(raw) != 32:
            raise NotThisFormat(f"{path} has {len(raw)} bytes; a raw Ed25519 key has 32. Restore it from the backup.")
        return Signer(Ed25519PrivateKey.from_private_bytes(raw))

    def sign(self, receipt: Mapping[str, Any]) -> str:
        """Sign the canonical form of a receipt; returns the signature in hex."""
        return self._private.sign(receipt_message(receipt)).hex()
