"""Receipts: the server's signed statement of which model, plan, request and answer belong together.

They are stored in a JSON Lines file, one receipt a line, to which each run appends. A report also holds the receipts of
its run.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from he_infer.errors import NotAuthentic, NotThisFormat, UnsupportedVersion
from he_infer.files import append_text
from he_infer.wire.envelope import Envelope, parts_digest, receipt_message

VERSION = 2


@dataclass(frozen=True)
class Receipt:
    """A verified receipt, to be kept with a report."""

    model: str
    head_digest: str
    plan: str
    key_set: str
    """Id of the key set that the answer was computed with."""
    request: str
    """SHA-256 of the request's envelope."""
    answer: str
    """Digest of the answer's parts."""
    time: int
    """The server's clock, milliseconds since 1970."""
    signature: str
    server_key: str

    def to_json(self) -> dict[str, Any]:
        """The signed object with its signature and public key, as `check` reads it."""
        return {"receipt": self.signed(), "signature": self.signature, "server_key": self.server_key}

    def signed(self) -> dict[str, Any]:
        """The object whose canonical form is signed."""
        return {
            "version": VERSION,
            "model": self.model,
            "head_digest": self.head_digest,
            "plan": self.plan,
            "key_set": self.key_set,
            "request": self.request,
            "answer": self.answer,
            "time": self.time,
        }


def check(receipt: Mapping[str, Any], signature: str, server_key: str) -> Receipt:
    """Verify a stored receipt's signature.

    Raises:
        NotAuthentic: the receipt is not signed with this key.
        UnsupportedVersion: the receipt has another version.
    """
    try:
        match receipt:
            case {
                "version": 1,
                **_older,
            }:
                raise UnsupportedVersion(
                    "A receipt of version 1 names no key set, so it does not say whose answer it is; this release "
                    f"reads version {VERSION}. Verify old receipts with the release that made them."
                )
            case {
                "version": 2,
                "model": str(model),
                "head_digest": str(head),
                "plan": str(plan),
                "key_set": str(key_set),
                "request": str(request),
                "answer": str(answer),
                "time": int(time),
            } if len(receipt) == 8:
                pass
            case _:
                raise NotAuthentic("The answer carries no receipt of a form that this release knows.")
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(server_key))
        public.verify(bytes.fromhex(signature), receipt_message(receipt))
    except (InvalidSignature, ValueError) as error:
        raise NotAuthentic("The receipt's signature is not the server's; do not trust the answer.") from error
    checked = Receipt(model, head, plan, key_set, request, answer, time, signature, server_key)
    if receipt_message(checked.signed()) != receipt_message(receipt):
        raise NotAuthentic("The answer carries a receipt with members of another type than they have.")
    return checked


def verify(
    answer: Envelope, *, server_key: str, request_digest: str, model: str, head_digest: str, plan: str, key_set: str
) -> Receipt:
    """Check that an answer's receipt is signed, and names this request, model, plan, key set and these parts.

    Raises:
        NotAuthentic: the receipt is missing, not signed by the server, or names something else.
    """
    receipt, signature = answer.header.get("receipt"), answer.header.get("signature")
    if not isinstance(receipt, dict) or not isinstance(signature, str):
        raise NotAuthentic("The answer carries no receipt; do not trust it. Install the same release on both sides.")
    checked = check(receipt, signature, server_key)
    stated = {
        "request": (checked.request, request_digest),
        "model": (checked.model, model),
        "head": (checked.head_digest, head_digest),
        "plan": (checked.plan, plan),
        "key set": (checked.key_set, key_set),
        "answer": (checked.answer, parts_digest(answer.parts)),
    }
    for name, (found, expected) in stated.items():
        if found != expected:
            raise NotAuthentic(f"The server's receipt names another {name} than this one; do not trust the answer.")
    return checked


def append(path: Path, receipts: Iterable[Mapping[str, Any]]) -> None:
    """Append receipts in the form of `Receipt.to_json` to a file and sync it; creates it with mode 0600 if missing.

    Raises:
        OSError: the file cannot be written.
    """
    lines = "".join(json.dumps(receipt, sort_keys=True) + "\n" for receipt in receipts)
    append_text(path, lines)


def read(path: Path) -> list[Receipt]:
    """Read and verify the receipts of a file that `append` wrote, or of a report of `he-infer classify --json`.

    Raises:
        NotThisFormat: the file is neither of the two or holds no receipt; the message names the line.
        NotAuthentic: a receipt is not signed with the key that it names.
        OSError: the file cannot be read.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and "receipts" in whole:
        entries = list(whole["receipts"]) if isinstance(whole["receipts"], list) else []
    else:
        entries = [_line(path, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not entries:
        raise NotThisFormat(f"{path} holds no receipt. Expected a file of receipts, or a report of 'classify --json'.")
    return [_entry(path, number, entry) for number, entry in enumerate(entries, 1)]


def _line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotThisFormat(f"{path}, line {number} is not a receipt. Expected a JSON object a line.") from error


def _entry(path: Path, number: int, entry: object) -> Receipt:
    match entry:
        case {"receipt": dict(signed), "signature": str(signature), "server_key": str(server_key)}:
            pass
        case _:
            raise NotThisFormat(f"{path}: entry {number} is not a receipt with its signature and key.")
    try:
        return check(signed, signature, server_key)
    except NotAuthentic as error:
        raise NotAuthentic(f"{path}: receipt {number} does not verify: {error}") from error
