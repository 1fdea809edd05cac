"""Limits on connections: slow, silent or vanished clients are disconnected, and the head of a request is small.

uvicorn bounds the pause between two requests; this bounds the rest. A request's head must arrive within `head_seconds`
(a client that sends a byte now and then would otherwise hold a descriptor for ever), and an answer must be read on
within `read_seconds` (one that never reads its answer would hold a thread, a stream from the store and a buffer). The
body's time is bounded by the routes. A client that was answered before its body was whole has `head_seconds` more to
end it. TCP keep-alive detects a peer that has vanished.

A request that is refused in any case, since its client has its share, is answered before it is parsed: see `overload`.

The head is parsed before any client is known, on the event loop, and each of its lines takes processor time: so its
lines and bytes are counted before. No route reads a body in chunks, so neither chunks nor the trailers behind them are
parsed, and such a connection ends with its answer.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_HEAD = 16 << 10
"""Bytes of a request's head."""
MOST_LINES = 100
"""Lines of a request's head, of which the first is no header."""
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
Headers = Sequence[tuple[bytes, bytes]]
_HEAD_END = re.compile(rb"\n\r?\n")


@dataclass(frozen=True)
class EarlyRefusal:
    """A request that is refused before it is parsed."""

    head: int
    """Bytes of its head."""
    body: int
    """Bytes of its body, which is not read."""
    wait: float
    """Seconds after which it is answered."""
    answer: Callable[[Headers], bytes]
    """Makes the whole answer, with these headers too."""


Leave = Callable[[], None]
"""To be called once, when a request that was let in has ended."""
Gate = Callable[[bytes], EarlyRefusal | Leave | None]
"""Refuses the request that begins these bytes, or lets it in; None for a request that is not counted."""


class BoundedParser(h11.Connection):
    """A server's HTTP parser that counts a head's lines and bytes before it reads them, and reads no chunks."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self.refusal: str | None = None
        """What was wrong with a head that was not read."""
        self.in_chunks = False
        """Whether the request's body comes in chunks: nothing after its head is read."""

    def receive_data(self, data: bytes) -> None:
        """Take bytes that have arrived, and drop those that are never read."""
        if not self.in_chunks:
            super().receive_data(data)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event of the request.

        Raises:
            RemoteProtocolError: the head is too large, or the bytes are no HTTP.
        """
        if self.in_chunks:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE:
            self._check_head(self.trailing_data[0])
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.in_chunks = any(name == b"transfer-encoding" for name, _ in event.headers)
        return event

    def _check_head(self, data: bytes) -> None:
        end = _HEAD_END.search(data, 0, MOST_HEAD + 1)
        length = len(data) if end is None else end.end()
        if length > MOST_HEAD or data.count(b"\n", 0, length) > MOST_LINES + 1:
            self.refusal = f"The head of a request may have {MOST_HEAD} bytes and {MOST_LINES} lines."
            raise h11.RemoteProtocolError(self.refusal, error_status_hint=431)


class BoundedConnection(H11Protocol):
    """A connection with bounds on its time; see `bounded`, which sets them."""

    head_seconds = 30.0
    read_seconds = 60.0
    gate: Gate = staticmethod(lambda _: None)
    _leave: Leave | None = None
    _refused: tuple[EarlyRefusal, bytes] | None = None
    """A request that is to be refused, and the bytes behind its body that have arrived."""
    _refuse_timer: asyncio.TimerHandle | None = None
    _unread = 0
    """Bytes of a refused request's body that are still to come."""
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _parser: BoundedParser

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock of the first request's head."""
        super().connection_made(cast(asyncio.Transport, transport))
        self.conn = self._parser = BoundedParser()
        _notice_dead_peers(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Refuse a request early, drop the body of one that was refused, or read on."""
        if self._refused is not None:
            refusal, rest = self._refused
            self._refused = refusal, rest + self._drop_body(data)
            if len(self._refused[1]) > MOST_HEAD:
                self.flow.pause_reading()
            return
        data = self._drop_body(data)
        if data and self._between_requests():
            let_in = self.gate(data)
            if isinstance(let_in, EarlyRefusal):
                self._hold(let_in, data)
                return
            self._leave = let_in
        if data:
            self._read(data)

    def _end_request(self) -> None:
        """Tell the gate that the request has ended, where it was counted."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    def _between_requests(self) -> bool:
        idle = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
        return idle and not self._parser.trailing_data[0] and not self.flow.write_paused

    def _hold(self, refusal: EarlyRefusal, data: bytes) -> None:
        """Answer a request that is refused, or let it wait without cost until it is answered."""
        self._unset_keepalive_if_required()
        self._stop_head_timer()
        end = refusal.head + refusal.body
        self._unread = max(0, end - len(data))
        self._refused = refusal, data[end:]  # its body is not kept while it waits
        if refusal.wait > 0:
            self._refuse_timer = self.loop.call_later(refusal.wait, self._refuse)
        else:
            self._refuse()

    def _refuse(self) -> None:
        self._refuse_timer = None
        if self._refused is None or self.transport.is_closing():
            return
        (refusal, rest), self._refused = self._refused, None
        self.transport.write(refusal.answer(self.server_state.default_headers))
        self.server_state.total_requests += 1
        if self._unread:
            self._await_head()
        else:
            self._await_next()
        self.flow.resume_reading()
        if rest:
            self._read(rest)

    def _drop_body(self, data: bytes) -> bytes:
        """Drop what belongs to a refused request's body; returns the bytes behind it."""
        if not self._unread:
            return data
        rest = data[self._unread :]
        self._unread = max(0, self._unread - len(data))
        if not self._unread:
            self._await_next()
        return rest

    def _await_next(self) -> None:
        """Start uvicorn's clock of a connection without a request."""
        self._stop_head_timer()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _read(self, data: bytes) -> None:
        """Start the clock with the first byte of a later request's head, stop it when a head is whole."""
        super().data_received(data)
        if self._parser.in_chunks:  # what is dropped need not be fetched
            self.flow.pause_reading()
        if self.conn.their_state is h11.IDLE:
            if self._head_timer is None:
                self._await_head()
        elif not self._unread_body():
            self._stop_head_timer()

    def send_400_response(self, msg: str) -> None:
        """Say what was wrong with a head, and close."""
        super().send_400_response(self._parser.refusal or msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a header that no route reads must not write lines into the log."""

    def on_response_complete(self) -> None:
        """Between two requests uvicorn's own keep-alive bound holds."""
        self._end_request()
        super().on_response_complete()
        self._stop_head_timer()
        if self._parser.in_chunks:  # where the body ends was not read, so the next request cannot be found
            self.transport.close()
            return
        if self._unread_body():
            self._await_head()

    def shutdown(self) -> None:
        """Answer what is to be refused before the connection is closed."""
        if self._refuse_timer is not None:
            self._refuse_timer.cancel()
            self._refuse()
        super().shutdown()

    def pause_writing(self) -> None:
        """The client does not read: start the clock."""
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(self.read_seconds, self._abort)

    def resume_writing(self) -> None:
        """The client reads on."""
        super().resume_writing()
        self._stop_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks."""
        self._end_request()
        self._stop_head_timer()
        self._stop_read_timer()
        if self._refuse_timer is not None:
            self._refuse_timer.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._abort)

    def _unread_body(self) -> bool:
        """Tell whether the answer is complete while the request's body is still being received."""
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _abort(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def bounded(head_seconds: float, read_seconds: float, gate: Gate) -> type[asyncio.Protocol]:
    """The protocol class for uvicorn's `http` setting, with these bounds in seconds."""
    members = {"head_seconds": head_seconds, "read_seconds": read_seconds, "gate": staticmethod(gate)}
    return type("BoundedConnection", (BoundedConnection,), members)


def _notice_dead_peers(transport: asyncio.BaseTransport) -> None:
    peer = cast(socket.socket | None, transport.get_extra_info("socket"))
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
