"""A requests session with limits on the time and size of answers, without redirects and proxies.

dicomweb-client reads whole answers into memory, and its read time-out applies to each pause between bytes. Therefore
the limits are enforced in the transport adapter below it.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from he_infer.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable, UsageError

_CHUNK = 1 << 16
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class BoundedAdapter(HTTPAdapter):
    """Reads every answer whole, within `most_bytes` and `most_seconds`.

    Raises (from `send`):
        ArchiveRefused: the answer is larger.
        ArchiveUnreachable: the answer takes longer.
    """

    def __init__(self, most_bytes: int, most_seconds: float) -> None:
        super().__init__()
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request and read its answer in chunks, with a check of the time after each."""
        until = time.monotonic() + self._most_seconds
        step = min(self._most_seconds, 30.0)
        answer = super().send(request, stream=True, timeout=(min(step, 10.0), step), verify=verify, cert=cert)
        announced = answer.headers.get("Content-Length", "0")
        if announced.isdecimal() and int(announced) > self._most_bytes:
            answer.close()
            raise self._too_large()
        body = bytearray()
        try:
            # `read1` returns the bytes that have arrived, so the time limit also holds for an archive that sends a byte
            # a second.
            while chunk := answer.raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > self._most_bytes:
                    raise self._too_large()
                if time.monotonic() > until:
                    raise ArchiveUnreachable(f"The archive did not finish its answer within {self._most_seconds:g} s.")
        except urllib3.exceptions.HTTPError as error:
            raise ArchiveUnreachable("The archive's answer broke off, or came to a halt.") from error
        finally:
            answer.close()
        answer._content = bytes(body)
        return answer

    def _too_large(self) -> ArchiveRefused:
        return ArchiveRefused(
            f"The archive's answer is larger than {self._most_bytes / 1e6:g} MB; it was not read. Allow more with "
            "--most-megabytes if such images are meant."
        )


def open_session(
    url: str,
    *,
    credentials: Path | None = None,
    ca_file: Path | None = None,
    insecure_http: bool = False,
    most_bytes: int = 512 * 2**20,
    most_seconds: float = 120.0,
) -> requests.Session:
    """Open a session for one archive.

    Args:
        url: the archive's address. Plain HTTP is accepted only to this machine, unless `insecure_http` is set.
        credentials: a file of mode 0600 with one line, `user:password` or `Bearer TOKEN`.
        ca_file: PEM file of the authority that signed the archive's certificate.
        insecure_http: allow unencrypted transfer of patients' images and reports.
        most_bytes: maximum size of an answer.
        most_seconds: maximum time for an answer.

    Raises:
        UsageError: the URL has a wrong form or is plain HTTP to another machine, or others may read the credentials.
        OSError: a file cannot be read.
    """
    check_url(url, insecure_http=insecure_http)
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedAdapter(most_bytes, most_seconds))
    if ca_file is not None:
        with ca_file.open("rb"):
            pass
        session.verify = str(ca_file)
    if credentials is not None:
        _add_credentials(session, credentials)
    return session


def check_url(url: str, *, insecure_http: bool = False) -> None:
    """Refuse a URL that is not an archive's, or that would send images unencrypted.

    Raises:
        UsageError: see the message.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not an archive's URL. Expected https://HOST[:PORT]/PATH.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError("An archive's URL holds neither user nor password nor query; give --archive-credentials.")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not insecure_http:
        raise UsageError(
            f"{url} would carry images and reports unencrypted over the network. Use https, or give --insecure-http."
        )


def explain(error: Exception, what: str) -> ArchiveError:
    """Turn an error of requests, dicomweb-client or a parser into an error for users."""
    match error:
        case ArchiveError():
            return error
        case requests.exceptions.SSLError():
            return ArchiveUnreachable(
                f"{what}: the archive's certificate is not trusted, or belongs to another name. Check the URL, or give "
                "the authority's certificate with --archive-ca."
            )
        case requests.exceptions.HTTPError() if error.response is not None:
            status = error.response.status_code
            advice = "Check the credentials." if status in (401, 403) else "Check the URL and the archive's log."
            kind = ArchiveUnreachable if status in (429, 502, 503, 504) else ArchiveRefused
            return kind(f"{what}: the archive answered with HTTP status {status}. {advice}")
        case requests.exceptions.Timeout():
            return ArchiveUnreachable(f"{what}: the archive did not answer in time.")
        case requests.exceptions.TooManyRedirects():
            return ArchiveRefused(f"{what}: the archive redirects elsewhere; that is not followed. Give its final URL.")
        case requests.exceptions.ConnectionError() | requests.exceptions.ChunkedEncodingError():
            return ArchiveUnreachable(f"{what}: there is no connection to the archive, or it broke off.")
        case _:
            return ArchiveRefused(
                f"{what}: the answer is not what DICOMweb prescribes ({type(error).__name__}). Is the URL that of the "
                "archive's DICOMweb service?"
            )


def _add_credentials(session: requests.Session, file: Path) -> None:
    if file.stat().st_mode & 0o077:
        raise UsageError(f"{file} is open to other users; expected mode 0600. Run: chmod 600 {file}")
    line = (file.read_text(encoding="utf-8").splitlines() or [""])[0].strip()
    user, colon, password = line.partition(":")
    if line.startswith("Bearer ") and len(line.split()) == len(("Bearer", "TOKEN")):
        session.headers["Authorization"] = line
    elif colon and user and password:
        session.auth = (user, password)
    else:
        raise UsageError(f"{file} holds no credentials. Expected one line: user:password, or Bearer TOKEN.")
