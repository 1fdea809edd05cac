"""Bearer tokens: their form, their stored digest and their scopes. Independent of HTTP and SQL.

A token is `hei_<id>_<secret>`: the id (16 hex digits) finds its row, the secret (32 random bytes, base64url) proves it.
Only the SHA-256 of the whole token is stored; a secret of 256 random bits needs no slow hash.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from he_infer.errors import UsageError

_FORM = re.compile(r"hei_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


class Scope(StrEnum):
    """Permission that a token has."""

    CLASSIFY = "classify"
    """List models, register evaluation keys, classify."""
    STORE = "store"
    """Put, get, list and delete sealed objects of the own client."""
    ADMIN = "admin"
    """Read the metrics."""


@dataclass(frozen=True)
class NewToken:
    """A new token. The server stores its digest only; `text` is for the client."""

    token_id: str
    text: str
    digest: str

    def __repr__(self) -> str:
        return f"NewToken(token_id={self.token_id!r})"


def new_token() -> NewToken:
    """Make a token from the operating system's random generator."""
    token_id = secrets.token_hex(8)
    text = f"hei_{token_id}_{secrets.token_urlsafe(32)}"
    return NewToken(token_id, text, digest(text))


def digest(token: str) -> str:
    """The stored form of a token: its SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_id(token: str) -> str | None:
    """The id within a token, or None where the text is not a token at all."""
    match = _FORM.fullmatch(token)
    return match.group(1) if match else None


def matches(token: str, stored_digest: str) -> bool:
    """Compare a presented token with a stored digest, in constant time."""
    return hmac.compare_digest(digest(token), stored_digest)


def parse_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Read scope names.

    Raises:
        UsageError: an unknown scope, or none at all.
    """
    try:
        scopes = frozenset(Scope(name) for name in names)
    except ValueError as error:
        known = ", ".join(scope.value for scope in Scope)
        raise UsageError(f"Unknown scope; expected one or more of: {known}.") from error
    if not scopes:
        raise UsageError("A token needs at least one scope.")
    return scopes
