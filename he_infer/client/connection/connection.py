"""A connection to one server: TLS, retries, refusals as errors, the version check at first contact, envelopes.

It knows only the routes `/v1/info` and `/healthz`. A request is repeated only if the transport failed or the server was
busy, never because of an answer's content: the server must not learn anything about a score from the client's next
request.
"""

import contextlib
import ipaddress
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from he_infer.client.connection.deadline import SECONDS, DeadlineTransport
from he_infer.client.connection.token import check_token
from he_infer.errors import (
    MissingKey,
    NotAuthentic,
    ProtocolMismatch,
    RequestRefused,
    SecretKeyRefused,
    ServerBusy,
    ServerError,
    ServerUnreachable,
    Unauthorised,
    UsageError,
)
from he_infer.wire import envelope as wire
from he_infer.wire.bodies import Info
from he_infer.wire.refusals import Code

OCTETS = {"Content-Type": "application/octet-stream"}
MOST_JSON = 16 << 20
"""Maximum size of a JSON answer, bytes."""
ANSWER_SECONDS = 120.0
"""Maximum time from the end of a request to the last byte of a small answer, seconds."""
LEAST_RATE = 64 << 10
"""Minimum transfer rate of a large answer, bytes per second."""
_MOST_REFUSAL = 64 << 10
_MOST_DIGITS = 9
_MOST_TEXT = 1000
"""Characters of a server's message that are shown; results and reports hold it too."""
Result = TypeVar("Result")
Body = TypeVar("Body", bound=BaseModel)
Parts = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Reply:
    """An answer that was read within the limits of size and time."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)


class Connection:
    """Sends requests with one token to one server, after checking that both use the same protocol.

    Args:
        url: the server's address.
        token: bearer token (`hei_...`); white space around it is removed.
        ca_file: PEM file of the authority that signed the server's certificate, where the system does not know it.
        client_cert: PEM file with a certificate and its private key, where the server asks for one.
        server_key: the server's Ed25519 public key in hex, if known; otherwise the key that the server states at first
            contact is kept.
        timeout: seconds for connecting, and for each pause in an answer.
        patience: seconds for which a request to a busy or restarting server is repeated.
        insecure_http: whether plain http to other hosts is allowed.

    Raises:
        UsageError: plain http to another host, without `insecure_http`; an address with a password or a query.
        NotThisFormat: the token is none.
        ServerUnreachable: the address or the PEM file is not usable.
        ServerError and its subclasses, by every method: see `he_infer.errors`.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        ca_file: Path | None,
        client_cert: Path | None,
        server_key: str | None,
        timeout: float,
        patience: float,
        insecure_http: bool = False,
    ) -> None:
        refuse_credentials(url)
        self.url = url.rstrip("/")
        if not self.url.lower().startswith(("http://", "https://")):
            raise ServerUnreachable(
                f"{self.url!r} is not a usable address of a server. Expected https://HOST, or http://127.0.0.1:PORT."
            )
        if not insecure_http:
            refuse_plain_http(self.url)
        bearer = check_token(token)
        self._patience = patience
        self._server_key = server_key
        self._info: Info | None = None
        self._clock_offset = 0.0
        try:
            self._http = httpx2.Client(
                base_url=self.url,
                # Compressed answers are never asked for: a small body could become a huge one.
                headers={"Authorization": f"Bearer {bearer}", "Accept-Encoding": "identity"},
                timeout=timeout,
                transport=DeadlineTransport(trust(ca_file, client_cert)),
                # Proxies from the environment are ignored: requests go only to the named server.
                trust_env=False,
            )
        except (OSError, httpx2.InvalidURL, UnicodeError, ValueError) as error:
            files = " or ".join(str(file) for file in (ca_file, client_cert) if file is not None)
            raise ServerUnreachable(
                f"{self.url} is not a usable address{f', or {files} no usable PEM file' if files else ''}."
            ) from error

    def close(self) -> None:
        self._http.close()

    def ping(self) -> None:
        """Check that the server's process answers, without checking its protocol version."""
        self._send_once("GET", "/healthz")

    @property
    def server_key(self) -> str:
        """Ed25519 public key, hex, that verifies receipts."""
        info = self._agree()
        return self._server_key or info.receipt_key

    @property
    def server_time(self) -> float:
        """The server's current time, Unix seconds: its clock at first contact plus the time since then."""
        self._agree()
        return time.monotonic() + self._clock_offset

    def request(self, method: str, path: str, **arguments: Any) -> Reply:
        """Send a request once, without retries."""
        self._agree()
        return self._send_once(method, path, **arguments)

    def get(self, path: str, **arguments: Any) -> Reply:
        """Send GET; repeat it while the server is busy or restarting."""
        self._agree()
        return self._patiently(lambda: self._send_once("GET", path, **arguments))

    def put(self, path: str, **arguments: Any) -> Reply:
        """Send PUT; repeat it while the server is busy or restarting."""
        self._agree()
        return self._patiently(lambda: self._send_once("PUT", path, **arguments))

    def parse(self, kind: type[Body], response: Reply) -> Body:
        """Read a JSON answer.

        Raises:
            ProtocolMismatch: the answer does not have the expected form.
        """
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise ProtocolMismatch(
                f"{self.url} does not answer as a server of he-infer of this version does."
            ) from error

    def send(
        self, method: str, path: str, kind: wire.Kind, header: Mapping[str, Any], parts: Parts, *, most: int = MOST_JSON
    ) -> tuple[bytes, Reply]:
        """Send an envelope; repeat it with a new nonce and time while the server is busy or restarting.

        If the server's clock has jumped, or this machine has slept, read that clock again and send the envelope once
        more.

        Returns:
            The envelope that was answered, and the answer to it.
        """

        def once() -> tuple[bytes, Reply]:
            stamp = {"nonce": secrets.token_hex(16), "time": int((time.monotonic() + self._clock_offset) * 1000)}
            encoded = wire.Envelope(kind, {**header, **stamp}, parts).encode()
            return encoded, self._send_once(method, path, most=most, content=encoded, headers=OCTETS)

        self._agree()
        try:
            return self._patiently(once)
        except RequestRefused as refused:
            if refused.code != Code.STALE.value:
                raise
        self._info = None
        self._agree()
        return self._patiently(once)

    def _agree(self) -> Info:
        """At first contact, check that this is a he-infer server with the same protocol and HE library."""
        if self._info is None:
            info = self.parse(Info, self._send_once("GET", "/v1/info"))
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
                raise NotAuthentic(
                    f"{self.url} signs with another key than the one expected of it. Expected: {self._server_key}. "
                    f"Stated now: {info.receipt_key}. Compare it with what the server's operator says; where the "
                    "change is theirs, give --accept-new-server-key once."
                )
            # The server judges an envelope's freshness by its own clock, so its clock is the one to use; this machine's
            # may be wrong, or be set while a run goes on.
            self._clock_offset = info.time / 1000 - time.monotonic()
            self._server_key = info.receipt_key
            self._info = info
        return self._info

    def _patiently(self, send: Callable[[], Result]) -> Result:
        """Send, and repeat while the server is busy or restarting, for at most `patience` seconds."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return send()
            except (ServerBusy, ServerUnreachable) as error:
                wait = error.retry_after if isinstance(error, ServerBusy) else 0.5
                if time.monotonic() + wait > deadline:
                    raise
            time.sleep(wait)

    def _send_once(
        self, method: str, path: str, *, most: int = MOST_JSON, seconds: float = ANSWER_SECONDS, **arguments: Any
    ) -> Reply:
        """Send once, and read the answer within the limits of size and time.

        Args:
            method: the HTTP method.
            path: the route.
            most: maximum size of the answer, bytes.
            seconds: maximum time until its last byte, plus the time for `most` bytes at the minimum rate.
            arguments: passed to httpx.

        Raises:
            ServerUnreachable, ProtocolMismatch, and the error that the refusal's code stands for.
            ServerError: the client was closed, perhaps by another thread.
        """
        limit = SECONDS.set(seconds + (most / LEAST_RATE if most > MOST_JSON else 0.0))
        try:
            with self._http.stream(method, path, **arguments) as response:
                refused = not response.is_success
                content = self._read(response, _MOST_REFUSAL if refused else most)
                reply = Reply(response.status_code, dict(response.headers), content)
        except httpx2.ConnectError as error:
            raise ServerUnreachable(
                f"No server answers at {self.url}. Is it running, and are address, port and TLS right?"
            ) from error
        except httpx2.ReadTimeout as error:
            raise ServerUnreachable(f"{self.url} answers too slowly, or not at all; it was given up.") from error
        except httpx2.TransportError as error:
            raise ServerUnreachable(f"The connection to {self.url} failed before it answered.") from error
        except (httpx2.InvalidURL, httpx2.HTTPError, ValueError) as error:
            raise ServerUnreachable(f"{self.url} is not a usable address, or its answer is not HTTP.") from error
        except RuntimeError as error:
            if not self._http.is_closed:
                raise
            raise ServerError("The client was closed; open it again to send requests.") from error
        finally:
            SECONDS.reset(limit)
        if refused:
            raise self._refusal(reply)
        return reply

    def _read(self, response: httpx2.Response, most: int) -> bytes:
        coding = response.headers.get("Content-Encoding", "identity")
        if coding.lower() != "identity":
            raise ProtocolMismatch(f"{self.url} answers with the content encoding '{coding}', which was not asked for.")
        content = bytearray()
        for piece in response.iter_raw():
            content += piece
            if len(content) > most:
                raise ProtocolMismatch(f"{self.url} answers with more than the {most} bytes that this route can have.")
        return bytes(content)

    def _refusal(self, response: Reply) -> Exception:
        from he_infer.terminal import clean  # it loads the terminal's library, which a program may not need

        try:
            error = json.loads(response.content)["error"]
            code, message = str(error["code"])[:_MOST_TEXT], clean(str(error["message"])[:_MOST_TEXT])
        except (ValueError, KeyError, TypeError, RecursionError):
            return ProtocolMismatch(
                f"{self.url} answers with status {response.status}, but not as a server of he-infer does."
            )
        match code:
            case Code.UNAUTHORISED:
                return Unauthorised(
                    f"{self.url} does not accept the token: it is unknown there, expired or revoked. Check "
                    "--token-file or HE_INFER_TOKEN, or ask the server's operator for a new one."
                )
            case Code.FORBIDDEN:
                return Unauthorised(message)
            case Code.BUSY | Code.DRAINING | Code.STORAGE | Code.RATE_LIMIT:
                return ServerBusy(message, retry_after=_seconds(response.headers.get("retry-after")))
            case Code.UNSUPPORTED_VERSION:
                return ProtocolMismatch(message)
            case Code.MISSING_KEYS:
                return MissingKey(
                    f"{self.url} has no usable key set for this key file and plan ({message}) Register it with "
                    "'he-infer keys register KEYFILE', or make keys with 'he-infer keys new'."
                )
            case Code.SECRET_KEY:
                return SecretKeyRefused(message)
            case _:
                return RequestRefused(message, code)


def refuse_credentials(url: str) -> None:
    """Refuse an address that holds more than a host and a path: messages and results show addresses.

    A user in an address would also replace the token in each request.

    Raises:
        UsageError: it holds a user, a password, a query or a fragment.
    """
    if {"@", "?", "#"} & set(url):
        raise UsageError(
            "A server's address holds neither user nor password, query or fragment. Expected https://HOST:PORT; the "
            "token goes into the file of --token-file."
        )


def refuse_plain_http(url: str) -> None:
    """Refuse plain http to another host: anybody on the network path could read it.

    Raises:
        UsageError: plain http to another host than this one.
    """
    try:
        address = httpx2.URL(url)
        host = address.host
    except (httpx2.InvalidURL, UnicodeError, ValueError):
        return  # it is refused where it is used
    if address.scheme != "http" or not host or host == "localhost":
        return
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    raise UsageError(
        f"{url} is plain http to another host: anybody on the network path can read the token and change the data. Use "
        "https, or give --insecure-http where something else protects the connection."
    )


def trust(ca_file: Path | None, client_cert: Path | None = None) -> ssl.SSLContext:
    """TLS settings: the trusted authorities, and the client's certificate for a server that asks for one.

    The trusted authorities are one PEM file, or those of the system.
    """
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    if client_cert is not None:
        context.load_cert_chain(client_cert)
    return context


def _seconds(header: str | None) -> float:
    """Read a Retry-After header in seconds; 1 where it is missing or not such a number."""
    if header and header.isascii() and header.isdigit() and len(header) <= _MOST_DIGITS:
        return float(header)
    return 1.0
