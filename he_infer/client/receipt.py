"""Receipts: the server's signed statement of which model, plan, request and answer belong together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from he_infer.errors import NotAuthentic
from he_infer.wire import Envelope, parts_digest, receipt_message


@dataclass(frozen=True)
class Receipt:
    """A verified receipt, to be kept with a report."""

    model: str
    head_digest: str
    plan: str
    request: str
    """SHA-256 of the sealed request."""
    answer: str
    """Digest of the answer's parts."""
    time: int
    """The server's clock, milliseconds since 1970."""
    signature: str
    server_key: str

    def to_json(self) -> dict[str, Any]:
        """The receipt as signed, with the signature and the key beside it, for `check`."""
        return {"receipt": self.signed(), "signature": self.signature, "server_key": self.server_key}

    def signed(self) -> dict[str, Any]:
        """The object whose canonical form is signed."""
        return {
            "version": 1,
            "model": self.model,
            "head_digest": self.head_digest,
            "plan": self.plan,
            "request": self.request,
            "answer": self.answer,
            "time": self.time,
        }


def check(receipt: Mapping[str, Any], signature: str, server_key: str) -> Receipt:
    """Verify a receipt's signature, now or years later.

    Raises:
        NotAuthentic: it is not a receipt signed with this key.
    """
    try:
        match receipt:
            case {
                "version": 1,
                "model": str(model),
                "head_digest": str(head),
                "plan": str(plan),
                "request": str(request),
                "answer": str(answer),
                "time": int(time),
            } if len(receipt) == 7:
                pass
            case _:
                raise NotAuthentic("The answer carries no receipt of a form that this release knows.")
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(server_key))
        public.verify(bytes.fromhex(signature), receipt_message(receipt))
    except (InvalidSignature, ValueError) as error:
        raise NotAuthentic("The receipt's signature is not the server's; do not trust the answer.") from error
    checked = Receipt(model, head, plan, request, answer, time, signature, server_key)
    if receipt_message(checked.signed()) != receipt_message(receipt):
        raise NotAuthentic("The answer carries a receipt with members of another type than they have.")
    return checked


def verify(
    answer: Envelope, *, server_key: str, request_digest: str, model: str, head_digest: str, plan: str
) -> Receipt:
    """Check that an answer's receipt is signed, and speaks of this request, this model, this plan and these parts.

    Raises:
        NotAuthentic: it does not.
    """
    receipt, signature = answer.header.get("receipt"), answer.header.get("signature")
    if not isinstance(receipt, dict) or not isinstance(signature, str):
        raise NotAuthentic("The answer carries no receipt.")
    checked = check(receipt, signature, server_key)
    stated = (checked.request, checked.model, checked.head_digest, checked.plan, checked.answer)
    if stated != (request_digest, model, head_digest, plan, parts_digest(answer.parts)):
        raise NotAuthentic("The receipt belongs to another request, model or answer; do not trust the answer.")
    return checked
