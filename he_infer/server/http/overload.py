"""Refuses classification requests of a client that has its share already, before they are parsed.

While more comes than the workers can do, most requests are refused, and the time that refusals take is missing for
answers. Parsing a head, authentication and the framework's cycle take several times what is done here: one pattern is
matched, the client is looked up, and one answer is written. No body is read. A head of any other form is refused by the
route, at its higher cost.

The token is not checked: that it was accepted once says whose share the request counts for, and the answer says only
that this client has too many requests.
"""

import re
import secrets
import time
from collections import Counter
from functools import partial

from he_infer.server.evidence.telemetry import Exchanges
from he_infer.server.http import classify
from he_infer.server.http.admission import Admission
from he_infer.server.http.body import IN_MEMORY
from he_infer.server.http.connections import MOST_HEAD, MOST_LINES, EarlyRefusal, Headers, Leave
from he_infer.server.http.refusals import refusal_bytes
from he_infer.wire.bodies import MODEL_ID
from he_infer.wire.refusals import REFUSALS, Refused

_PATH = re.escape(classify.PATH).replace(re.escape("{model}"), MODEL_ID)
_LINE = "[A-Za-z-]+: [!-~](?:[ -~]*[!-~])?\r\n"
# Every head that matches is HTTP in its plainest form, so that no reader can understand it otherwise.
_HEAD = re.compile(f"POST {_PATH} HTTP/1\\.1\r\n((?:{_LINE}){{1,{MOST_LINES - 1}}})\r\n".encode())
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BEARER = b"Bearer "
_ONCE = frozenset({b"host", b"authorization", b"content-length"})
_NEVER = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"trailer"})


class Overload:
    """Finds requests that would be refused as `busy` anyway.

    Args:
        exchanges: where refusals are noted.
        admission: knows the clients by their tokens, and whether they have their share.
    """

    def __init__(self, exchanges: Exchanges, admission: Admission) -> None:
        self._exchanges = exchanges
        self._admission = admission
        self._under_way: Counter[str] = Counter()
        """Requests of each client that were let in and are not answered yet."""

    def enter(self, data: bytes) -> EarlyRefusal | Leave | None:
        """Refuse the request that begins these bytes, or count it as one that is under way; see `Gate`."""
        head = _HEAD.match(data, 0, MOST_HEAD)
        if head is None or (announced := _read_headers(head[1])) is None:
            return None
        token, length = announced
        client = self._admission.recall_client(token)
        if client is None:
            return None
        refused = self._admission.find_busy(client, self._under_way[client])
        if refused is None:
            self._under_way[client] += 1
            return partial(self._leave, client)
        answer = partial(self._answer, client, refused, time.perf_counter())
        return EarlyRefusal(head.end(), length, self._admission.pace_refusal(client), answer)

    def _leave(self, client: str) -> None:
        self._under_way[client] -= 1
        if not self._under_way[client]:
            del self._under_way[client]

    def _answer(self, client: str, refused: Refused, started: float, headers: Headers) -> bytes:
        """Make the whole answer, and note it as every answer is noted."""
        request_id = secrets.token_hex(8)
        answer, size = refusal_bytes(refused, request_id, headers)
        self._exchanges.note(
            request_id=request_id,
            client=client,
            method="POST",
            route=classify.PATH,
            status=REFUSALS[refused.code].status,
            outcome=refused.code.value,
            seconds=time.perf_counter() - started,
            received=0,
            sent=size,
        )
        return answer


def _read_headers(lines: bytes) -> tuple[str, int] | None:
    """Return token and length of the body; None where a head is not plain enough."""
    found: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        name = name.lower()
        if name in _NEVER or (name in _ONCE and name in found):
            return None
        if name == b"connection" and value.lower() != b"keep-alive":
            return None
        found[name] = value
    length, authorization = found.get(b"content-length", b""), found.get(b"authorization", b"")
    if b"host" not in found or not _LENGTH.fullmatch(length) or not authorization.startswith(_BEARER):
        return None
    # A larger body is not worth reading on only to keep the connection.
    return (authorization[len(_BEARER) :].decode("ascii"), int(length)) if int(length) <= IN_MEMORY else None
