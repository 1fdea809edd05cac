"""The answer to an encrypted request: ciphertexts of scores, accepted only with a receipt that binds them to it."""

import hashlib
from dataclasses import dataclass, field
from typing import Self

from he_infer.ckks.planning.plan import Plan
from he_infer.client.served_model import ServedModel
from he_infer.client.verify.receipts import Receipt, verify
from he_infer.errors import NotThisFormat
from he_infer.wire.envelope import Envelope


@dataclass(frozen=True)
class Answer:
    """Encrypted scores, with the facts that are known without a key."""

    parts: tuple[bytes, ...] = field(repr=False)
    receipt: Receipt
    server_seconds: float
    """Time in the worker for parsing, computing and saving, as the server states it."""
    bytes_up: int
    bytes_down: int

    @classmethod
    def verified(
        cls,
        envelope: Envelope,
        *,
        sent: bytes,
        received: int,
        server_key: str,
        model: ServedModel,
        plan: Plan,
        key_set: str,
    ) -> Self:
        """Read an answer from an envelope, and verify that its receipt is signed by the server and names this request.

        Args:
            envelope: from the server.
            sent: the request's envelope.
            received: size of the answer's envelope, bytes.
            server_key: the server's Ed25519 public key, hex.
            model: the requested model.
            plan: the request's plan.
            key_set: id of the request's key set.

        Raises:
            NotAuthentic: the receipt's signature is wrong, or it does not name this request.
            NotThisFormat: the answer does not state the server's time.
        """
        receipt = verify(
            envelope,
            server_key=server_key,
            request_digest=hashlib.sha256(sent).hexdigest(),
            model=model.id,
            head_digest=model.head_digest,
            plan=plan.digest,
            key_set=key_set,
        )
        server_us = envelope.header.get("server_us")
        if isinstance(server_us, bool) or not isinstance(server_us, int) or not 0 <= server_us < 1 << 53:
            raise NotThisFormat("The server's answer does not state its time; install the same release on both sides.")
        return cls(
            parts=tuple(data for _, data in envelope.parts),
            receipt=receipt,
            server_seconds=server_us / 1e6,
            bytes_up=len(sent),
            bytes_down=received,
        )
