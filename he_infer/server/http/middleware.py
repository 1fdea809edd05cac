"""Middleware that logs every exchange, without payloads, tokens or scores."""

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from he_infer.server.http.refusals import error_body
from he_infer.server.service import Service
from he_infer.wire.refusals import Code

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Methods that the log names; others may be as long as a head."""


class Observation:
    """Gives every request an id, a log line and metrics, records its bodies where asked, and answers defects with 500.

    Args:
        app: the application that answers.
        service: the service whose metrics and recorder are used.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._log = structlog.get_logger("he_infer.access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an exchange on, and note how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, keep=self._service.recorder is not None)
        state = scope.setdefault("state", {})
        state.update(request_id=exchange.request_id, outcome="ok", client=None)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:  # the client is gone, and the server is not at fault
            state["outcome"] = "gone"
        except Exception:  # a defect: logged with its traceback, answered without one
            state["outcome"] = Code.INTERNAL.value
            self._log.exception("defect", request_id=exchange.request_id)
            if not exchange.status:
                await exchange.refuse_internal()
        finally:
            self._report(scope, exchange, state)

    def _report(self, scope: Scope, exchange: "_Exchange", state: Mapping[str, Any]) -> None:
        self._service.exchanges.note(
            request_id=exchange.request_id,
            client=state["client"],
            method=scope["method"] if scope["method"] in _METHODS else "other",
            route=getattr(scope.get("route"), "path", "unknown"),
            status=exchange.status,
            outcome=str(state["outcome"]),
            seconds=time.perf_counter() - exchange.started,
            received=exchange.received,
            sent=exchange.sent,
        )
        recorder = self._service.recorder
        if recorder is not None:
            name = getattr(scope.get("route"), "name", "unknown")
            recorder.save(recorder.next_number(), name, bytes(exchange.body_in), bytes(exchange.body_out))


class _Exchange:
    """Counts, and where asked keeps, the bytes of one exchange."""

    def __init__(self, receive: Receive, send: Send, *, keep: bool) -> None:
        self._receive = receive
        self._send = send
        self._keep = keep
        self.request_id = secrets.token_hex(8)
        self.started = time.perf_counter()
        self.status = 0
        self.received = 0
        self.sent = 0
        self.body_in = bytearray()
        self.body_out = bytearray()

    async def receive(self) -> Message:
        message = await self._receive()
        body = message.get("body", b"")
        self.received += len(body)
        if self._keep:
            self.body_in += body
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message.setdefault("headers", []).append((b"x-request-id", self.request_id.encode()))
        body = message.get("body", b"")
        self.sent += len(body)
        if self._keep:
            self.body_out += body
        await self._send(message)

    async def refuse_internal(self) -> None:
        body = json.dumps(
            error_body(
                Code.INTERNAL,
                "The server failed on this request; report the request id to its operator.",
                self.request_id,
            )
        )
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body.encode()})
