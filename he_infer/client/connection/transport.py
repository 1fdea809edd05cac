"""HTTP to one server: addresses, TLS, patience, and answers turned into errors. Knows nothing of what is sent."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from he_infer.errors import (
    MissingKey,
    ProtocolMismatch,
    RequestRefused,
    SecretKeyRefused,
    ServerBusy,
    ServerUnreachable,
    Unauthorised,
)
from he_infer.wire.refusals import Code

Result = TypeVar("Result")
Body = TypeVar("Body", bound=BaseModel)


class Transport:
    """Sends requests with one token to one address.

    Args:
        url: the server's address.
        token: bearer token.
        ca_file: PEM file of the authority that signed the server's certificate, where the system does not know it.
        client_cert: PEM file with a certificate and its private key, where the server asks for one.
        timeout: seconds for connecting, and for each pause in an answer.
        patience: seconds in which a busy or restarting server is asked again.

    Raises:
        ServerUnreachable: the address or the PEM file is not usable.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        ca_file: Path | None,
        timeout: float,
        patience: float,
        client_cert: Path | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
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

    def get(self, path: str, **arguments: Any) -> httpx2.Response:
        """GET with patience."""
        return self.patiently(lambda: self.request("GET", path, **arguments))

    def patiently(self, send: Callable[[], Result]) -> Result:
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

    def request(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
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
                    f"{self.url} has no evaluation keys of this client for the model's plan. Register them with "
                    "'he-infer keys register KEYFILE', or make keys with 'he-infer keys new'."
                )
            case Code.SECRET_KEY:
                return SecretKeyRefused(message)
            case _:
                return RequestRefused(message, code)

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
