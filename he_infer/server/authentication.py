"""Authentication and scopes: bearer tokens against the database."""

import time

from he_infer.server import tokens
from he_infer.server.metadata import Caller, Metadata, TokenRecord
from he_infer.server.tokens import Scope
from he_infer.wire.refusals import Code, Refused

# Digest to compare with where no token has the presented id, so that both cases do the same work.
_NOBODY = tokens.digest("nobody")


def authenticate(metadata: Metadata, token: str | None, scope: Scope) -> Caller:
    """Find the client that a token belongs to.

    A missing, malformed, unknown, expired or revoked token gets the same refusal with the same message.

    Raises:
        Refused: `unauthorised`, or `forbidden` where a valid token lacks the scope.
    """
    token_id = tokens.token_id(token) if token else None
    found = metadata.tokens.find(token_id) if token_id else None
    return _check(token or "", found, scope)


def authenticate_from_memory(metadata: Metadata, token: str | None, scope: Scope) -> Caller | None:
    """Do what `authenticate` does, within microseconds; None where the database has to be asked.

    Raises:
        Refused: see `authenticate`.
    """
    token_id = tokens.token_id(token) if token else None
    found = metadata.tokens.recall(token_id) if token_id else None
    return None if found is None else _check(token or "", found, scope)


def check_again(metadata: Metadata, caller: Caller, *, ask: bool = True) -> None:
    """Check that a caller's token, which was valid when its request began, is valid still.

    Args:
        metadata: the database.
        caller: the caller of a request that has waited since.
        ask: whether to ask a database that is not asked from memory, which costs it a query.

    Raises:
        Refused: `unauthorised`, `storage`.
    """
    found = metadata.tokens.recall(caller.token_id)
    if found is None:
        if not ask and not metadata.tokens.remembered:
            return
        found = metadata.tokens.find(caller.token_id)
    if found is None or not _valid_now(found[0].expires, found[0].revoked):
        raise Refused(
            Code.UNAUTHORISED,
            "The token was revoked or has expired while this request waited; ask the operator for a new one.",
        )


def _check(token: str, found: tuple[TokenRecord, Caller] | None, scope: Scope) -> Caller:
    right = tokens.matches(token, found[0].digest if found else _NOBODY)
    if found is None or not right or not _valid_now(found[0].expires, found[0].revoked):
        raise Refused(
            Code.UNAUTHORISED, "The token was not accepted: send a valid one as 'Authorization: Bearer <token>'."
        )
    caller = found[1]
    if scope not in caller.scopes:
        raise Refused(Code.FORBIDDEN, f"This needs a token with the scope '{scope.value}'.")
    return caller


def _valid_now(expires: float | None, revoked: float | None) -> bool:
    return revoked is None and (expires is None or time.time() < expires)
