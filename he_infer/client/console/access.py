"""Access control of the page: a one-time login link, a session cookie and a CSRF token.

Every user and every web page of this machine can reach a loopback port. Therefore the page needs a login link, a cookie
that no script and no other site can use, a check of the Host header against DNS rebinding, and a token in a header for
every request that changes something.
"""

import hashlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = frozenset({"GET", "HEAD"})
CSRF_HEADER = "x-csrf-token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_OPEN_PATHS = ("/static/", "/healthz")


class Access:
    """The login link and the sessions that it opened.

    Args:
        port: the page's port, for the check of the Host header.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._link = secrets.token_urlsafe(32)
        self._sessions: dict[bytes, str] = {}

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self._port}"

    def new_link(self) -> str:
        """Make a one-time login link; an earlier unused link becomes invalid."""
        self._link = secrets.token_urlsafe(32)
        return f"{self.url}/login?key={self._link}"

    def enter(self, key: str) -> str | None:
        """Start a session: exchanges a one-time login key for a cookie; None if the key is wrong or used."""
        if not self._link or not hmac.compare_digest(key.encode(), self._link.encode()):
            return None
        self._link = ""
        cookie = secrets.token_urlsafe(32)
        self._sessions[_digest(cookie)] = secrets.token_urlsafe(32)
        return cookie

    def csrf(self, cookie: str) -> str | None:
        """The session's CSRF token; None if there is no such session."""
        return self._sessions.get(_digest(cookie))

    def leave(self, cookie: str) -> None:
        """End a session."""
        self._sessions.pop(_digest(cookie), None)

    @property
    def cookie_name(self) -> str:
        """Name of the cookie. It holds the port, since a browser shares cookies between all ports of a host."""
        return f"he_infer_{self._port}"

    def is_own_host(self, host: str) -> bool:
        """Whether a Host header names this page on loopback."""
        return host.lower() in (f"127.0.0.1:{self._port}", f"localhost:{self._port}")


class Guard:
    """Middleware that refuses requests without access, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # the page uses no web sockets
        refusal = self._refusal(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        path, method = scope["path"], scope["method"]
        if not self._access.is_own_host(headers.get("host", "")):
            return PlainTextResponse("This page answers only requests for 127.0.0.1.", 421)
        if path.startswith(_OPEN_PATHS) and method in SAFE:
            return None
        if path == "/login" and method == "GET":
            return None
        cookie = read_cookie(headers, self._access.cookie_name)
        token = self._access.csrf(cookie)
        if token is None:
            if method == "GET" and "hx-request" not in headers:
                return RedirectResponse("/login", 303)
            return PlainTextResponse("Open the page with the login link that the terminal shows.", 401)
        scope.setdefault("state", {}).update({"csrf": token, "cookie": cookie})
        if method in SAFE:
            return None
        origin = headers.get("origin", "")
        if not origin.startswith("http://") or not self._access.is_own_host(origin.removeprefix("http://")):
            return PlainTextResponse("This request came from another site; nothing was done.", 403)
        if not hmac.compare_digest(headers.get(CSRF_HEADER, "").encode(), token.encode()):
            return PlainTextResponse("This request lacks the page's token; reload the page.", 403)
        return None


def read_cookie(headers: Headers, name: str) -> str:
    """A cookie's value; empty where there is none."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
