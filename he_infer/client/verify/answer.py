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
    """Encrypted scores, and what can be said of them without a key."""

    parts: tuple[bytes, ...] = field(repr=False)
    receipt: Receipt
    server_seconds: float
    """Time in the worker for parsing, computing and saving, by the server's own account."""
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
        """What an envelope holds, where its receipt is the server's and speaks of this request.

        Args:
            envelope: from the server.
            sent: the request's envelope.
            received: bytes of the answer's envelope.
            server_key: the server's Ed25519 public key, hex.
            model: what was asked.
            plan: under which plan.
            key_set: with which evaluation keys.

        Raises:
            NotAuthentic: its binding to this request or the receipt's signature is wrong.
            NotThisFormat: it does not state the server's time.
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
        if not isinstance(server_us, int):
            raise NotThisFormat("The server's answer does not state its time; it speaks another dialect.")
        return cls(
            parts=tuple(data for _, data in envelope.parts),
            receipt=receipt,
            server_seconds=server_us / 1e6,
            bytes_up=len(sent),
            bytes_down=received,
        )
