"""A channel to one server: agreement at first contact, the server's clock, sealed envelopes. Knows no route but one.

A request is repeated only where the transport failed or the server was busy, never for what an answer holds: a server
must not learn anything of a score from what the client does next.
"""

import secrets
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel

from he_infer.client.connection.transport import Transport
from he_infer.errors import NotAuthentic, ProtocolMismatch, RequestRefused
from he_infer.wire import envelope as wire
from he_infer.wire.refusals import Code

OCTETS = {"Content-Type": "application/octet-stream"}
_MAX_ANSWER = 1 << 30
Body = TypeVar("Body", bound=BaseModel)
Parts = tuple[tuple[str, bytes], ...]


class _Protocol(BaseModel):
    min: int
    max: int


class _Info(BaseModel):
    service: str
    version: str
    protocol: _Protocol
    seal: str
    receipt_key: str
    time: int


class Channel:
    """Speaks to one server with one token, after both have agreed on what they speak.

    Args:
        transport: carries its requests, with this token.
        token: bearer token (`hei_...`).
        server_key: the server's Ed25519 public key in hex, where it is known from elsewhere; otherwise the one that
            the server states at first contact is taken and held.

    Raises:
        ServerError and its subclasses, by every method: see `he_infer.errors`.
    """

    def __init__(self, transport: Transport, token: str, server_key: str | None) -> None:
        self._http = transport
        self._token = token
        self._server_key = server_key
        self._info: _Info | None = None
        self._clock_offset = 0.0
        self.url = transport.url

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def ping(self) -> None:
        """Check that the server's process answers, whatever it speaks."""
        self._http.request("GET", "/healthz")

    @property
    def server_key(self) -> str:
        """The Ed25519 public key that receipts are checked with, hex."""
        info = self._agree()
        return self._server_key or info.receipt_key

    def request(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """Send once."""
        self._agree()
        return self._http.request(method, path, **arguments)

    def get(self, path: str, **arguments: Any) -> httpx2.Response:
        """GET with patience."""
        self._agree()
        return self._http.get(path, **arguments)

    def put(self, path: str, **arguments: Any) -> httpx2.Response:
        """PUT with patience."""
        self._agree()
        return self._http.patiently(lambda: self._http.request("PUT", path, **arguments))

    def parse(self, kind: type[Body], response: httpx2.Response) -> Body:
        """The JSON body of an answer, checked.

        Raises:
            ProtocolMismatch: it is not of this form.
        """
        return self._http.parse(kind, response)

    def send(
        self, method: str, path: str, kind: wire.Kind, header: Mapping[str, Any], parts: Parts
    ) -> tuple[bytes, httpx2.Response]:
        """Seal an envelope and send it, with patience; each time it is sealed anew.

        Where one of the clocks has jumped, the server's is taken anew, and the envelope sealed and sent once more.

        Returns:
            The sealed envelope that was answered, and the answer to it.
        """

        def once() -> tuple[bytes, httpx2.Response]:
            sealed = self._seal(kind, header, parts)
            return sealed, self._http.request(method, path, content=sealed, headers=OCTETS)

        self._agree()
        try:
            return self._http.patiently(once)
        except RequestRefused as refused:
            if refused.code != Code.STALE.value:
                raise
        self._info = None
        self._agree()
        return self._http.patiently(once)

    def open(self, kind: wire.Kind, body: bytes) -> wire.Envelope:
        """An envelope from the server.

        Raises:
            NotAuthentic: its MAC is not made with this channel's token.
            FormatError: it is no envelope of this kind and version.
        """
        key = wire.mac_key(self._token, wire.Direction.TO_CLIENT)
        return wire.Envelope.open(body, key, kind=kind, max_bytes=_MAX_ANSWER)

    def _seal(self, kind: wire.Kind, header: Mapping[str, Any], parts: Parts) -> bytes:
        stamp = {"nonce": secrets.token_hex(16), "time": int((time.time() + self._clock_offset) * 1000)}
        key = wire.mac_key(self._token, wire.Direction.TO_SERVER)
        return wire.Envelope(kind, {**header, **stamp}, parts).seal(key)

    def _agree(self) -> _Info:
        """At first contact, check that this is a server of ours, of our protocol and our HE library."""
        if self._info is None:
            info = self._http.parse(_Info, self._http.request("GET", "/v1/info"))
            if info.service != "he-infer":
                raise ProtocolMismatch(f"{self.url} is not a server of he-infer.")
            if not info.protocol.min <= wire.VERSION <= info.protocol.max:
                raise ProtocolMismatch(
                    f"{self.url} speaks versions {info.protocol.min} to {info.protocol.max} of the protocol, this "
                    f"client version {wire.VERSION}. Install the same release on both sides."
                )
            if info.seal != wire.seal_format():
                raise ProtocolMismatch(
                    f"{self.url} computes with {info.seal}, this client with {wire.seal_format()}; their ciphertexts "
                    "differ. Install the same release on both sides."
                )
            if self._server_key is not None and info.receipt_key != self._server_key:
                raise NotAuthentic(f"{self.url} signs with another key than the one expected of it.")
            # The server judges an envelope's freshness by its own clock, so its clock is the one to use.
            self._clock_offset = info.time / 1000 - time.time()
            self._server_key = info.receipt_key
            self._info = info
        return self._info
