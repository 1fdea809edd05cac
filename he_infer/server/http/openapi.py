"""Bodies and refusals in the OpenAPI document."""

from typing import Any

from he_infer.wire import bodies
from he_infer.wire.refusals import REFUSALS, Code

OCTETS = "application/octet-stream"
BINARY = {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
BODY = {"requestBody": {**BINARY, "required": True}}
_ANYWHERE = (Code.UNAUTHORISED, Code.FORBIDDEN, Code.RATE_LIMIT, Code.INVALID, Code.STORAGE, Code.INTERNAL)


def refusing(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """Describe a route's refusals: those that every route has, and these.

    Returns:
        Entries by status; the description of each has the codes and their meanings.
    """
    entries: dict[int | str, dict[str, Any]] = {}
    for code in (*_ANYWHERE, *codes):
        refusal = REFUSALS[code]
        line = f"`{code.value}`: {refusal.meaning}."
        entry = entries.setdefault(refusal.status, {"model": bodies.ErrorBody, "description": line})
        if line not in entry["description"]:
            entry["description"] += "\n\n" + line
    return entries
