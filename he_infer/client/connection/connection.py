"""A connection to one server: TLS, patience, refusals as errors, agreement at first contact, envelopes.

Knows no route but `/v1/info` and `/healthz`. A request is repeated only where the transport failed or the server was
busy, never for what an answer holds: a server must not learn anything of a score from what the client does next.
"""

import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from he_infer.errors import (
    MissingKey,
    NotAuthentic,
    ProtocolMismatch,
    RequestRefused,
    SecretKeyRefused,
    ServerBusy,
    ServerUnreachable,
    Unauthorised,
)
from he_infer.wire import envelope as wire
from he_infer.wire.bodies import Info
from he_infer.wire.refusals import Code

OCTETS = {"Content-Type": "application/octet-stream"}
Result = TypeVar("Result")
Body = TypeVar("Body", bound=BaseModel)
Parts = tuple[tuple[str, bytes], ...]


class Connection:
    """Sends requests with one token to one server, after both have agreed on what they speak.

    Args:
        url: the server's address.
        token: bearer token (`hei_...`).
        ca_file: PEM file of the authority that signed the server's certificate, where the system does not know it.
        client_cert: PEM file with a certificate and its private key, where the server asks for one.
        server_key: the server's Ed25519 public key in hex, where it is known from elsewhere; otherwise the one that
            the server states at first contact is taken and held.
        timeout: seconds for connecting, and for each pause in an answer.
        patience: seconds in which a busy or restarting server is asked again.

    Raises:
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
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._server_key = server_key
        self._info: Info | None = None
        self._clock_offset = 0.0
        try:
            self._http = httpx2.Client(
                base_url=self.url,
                headers={"Authorization": f"Bearer {token}"},
                timeout=timeout,
                verify=trust(ca_file, client_cert),
                # A proxy from the environment is not asked: requests go to the server that was named, or nowhere.
                trust_env=False,
            )
        except (OSError, httpx2.InvalidURL, UnicodeError, ValueError) as error:
            files = " or ".join(str(file) for file in (ca_file, client_cert) if file is not None)
            raise ServerUnreachable(
                f"{self.url} is not a usable address{f', or {files} no usable PEM file' if files else ''}."
            ) from error

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def ping(self) -> None:
        """Check that the server's process answers, whatever it speaks."""
        self._send_once("GET", "/healthz")

    @property
    def server_key(self) -> str:
        """The Ed25519 public key that receipts are checked with, hex."""
        info = self._agree()
        return self._server_key or info.receipt_key

    def request(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """Send once."""
        self._agree()
        return self._send_once(method, path, **arguments)

    def get(self, path: str, **arguments: Any) -> httpx2.Response:
        """GET with patience."""
        self._agree()
        return self._patiently(lambda: self._send_once("GET", path, **arguments))

    def put(self, path: str, **arguments: Any) -> httpx2.Response:
        """PUT with patience."""
        self._agree()
        return self._patiently(lambda: self._send_once("PUT", path, **arguments))

    def parse(self, kind: type[Body], response: httpx2.Response) -> Body:
        """Read a JSON answer.

        Raises:
            ProtocolMismatch: it is of another form.
        """
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise ProtocolMismatch(
                f"{self.url} does not answer as a server of he-infer of this version does."
            ) from error

    def send(
        self, method: str, path: str, kind: wire.Kind, header: Mapping[str, Any], parts: Parts
    ) -> tuple[bytes, httpx2.Response]:
        """Send an envelope, with patience; each time with a fresh nonce and time.

        Where one of the clocks has jumped, the server's is taken anew, and the envelope is sent once more.

        Returns:
            The envelope that was answered, and the answer to it.
        """

        def once() -> tuple[bytes, httpx2.Response]:
            stamp = {"nonce": secrets.token_hex(16), "time": int((time.time() + self._clock_offset) * 1000)}
            encoded = wire.Envelope(kind, {**header, **stamp}, parts).encode()
            return encoded, self._send_once(method, path, content=encoded, headers=OCTETS)

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
        """At first contact, check that this is a server of ours, of our protocol and our HE library."""
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
                raise NotAuthentic(f"{self.url} signs with another key than the one expected of it.")
            # The server judges an envelope's freshness by its own clock, so its clock is the one to use.
            self._clock_offset = info.time / 1000 - time.time()
            self._server_key = info.receipt_key
            self._info = info
        return self._info

    def _patiently(self, send: Callable[[], Result]) -> Result:
        """Send, and send again while the server is busy or restarting and patience lasts."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return send()
            except (ServerBusy, ServerUnreachable) as error:
                wait = error.retry_after if isinstance(error, ServerBusy) else 0.5
                if time.monotonic() + wait > deadline:
                    raise
            time.sleep(wait)

    def _send_once(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """Send once.

        Raises:
            ServerUnreachable, and what the refusal's code stands for.
        """
        try:
            response = self._http.request(method, path, **arguments)
        except httpx2.ConnectError as error:
            raise ServerUnreachable(
                f"No server answers at {self.url}. Is it running, and are address, port and TLS right?"
            ) from error
        except httpx2.TransportError as error:
            raise ServerUnreachable(f"The connection to {self.url} failed before it answered.") from error
        except (httpx2.InvalidURL, httpx2.HTTPError, ValueError) as error:
            raise ServerUnreachable(f"{self.url} is not a usable address, or its answer is not HTTP.") from error
        if response.is_success:
            return response
        raise self._refusal(response)

    def _refusal(self, response: httpx2.Response) -> Exception:
        try:
            error = response.json()["error"]
            code, message = str(error["code"]), str(error["message"])
        except (ValueError, KeyError, TypeError):
            return ProtocolMismatch(
                f"{self.url} answers with status {response.status_code}, but not as a server of he-infer does."
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
                return ServerBusy(message, retry_after=_seconds(response.headers.get("Retry-After")))
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


def trust(ca_file: Path | None, client_cert: Path | None = None) -> ssl.SSLContext | bool:
    """What a server's certificate is checked against, and what is shown to a server that asks.

    The former is one authority's PEM file, or those that the system knows.
    """
    if ca_file is None and client_cert is None:
        return True
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    if client_cert is not None:
        context.load_cert_chain(client_cert)
    return context


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isdigit() else 1.0
