"""Access to the page: only with the login link, and only from the page itself."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from he_infer.client.console.access import POLICY, Access, Guard

PORT = 4711
OWN = f"127.0.0.1:{PORT}"


def ask(
    access: Access, method: str, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("inside")

    app = Guard(Starlette(routes=[Route("/{rest:path}", answer, methods=["GET", "POST"])]), access)
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(dict(message))

    given = [(name.lower().encode(), value.encode()) for name, value in {"Host": OWN, **(headers or {})}.items()]
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": given, "scheme": "http", "server": ("127.0.0.1", PORT), "client": ("127.0.0.1", 1),
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    head = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], head, b"".join(part.get("body", b"") for part in said[1:])


def enter(access: Access) -> dict[str, str]:
    cookie = access.enter(access.new_link().partition("key=")[2])
    assert cookie is not None
    token = access.csrf(cookie)
    assert token is not None
    return {"Cookie": f"{access.cookie_name}={cookie}", "X-CSRF-Token": token, "Origin": f"http://{OWN}"}


def test_login_link_works_once_and_a_new_one_ends_the_old() -> None:
    access = Access(PORT)
    first = access.new_link().partition("key=")[2]
    second = access.new_link().partition("key=")[2]
    assert access.enter(first) is None
    assert access.enter(second) is not None
    assert access.enter(second) is None
    assert access.enter("") is None


def test_page_without_session_leads_to_login_and_changes_are_refused() -> None:
    access = Access(PORT)
    assert ask(access, "GET", "/")[0] == 303
    assert ask(access, "GET", "/desk", {"HX-Request": "true"})[0] == 401
    assert ask(access, "POST", "/send")[0] == 401
    assert ask(access, "GET", "/", {"Cookie": f"{access.cookie_name}=guess"})[0] == 303


def test_session_with_token_and_own_origin_may_change() -> None:
    access = Access(PORT)
    status, _, body = ask(access, "POST", "/send", enter(access))
    assert (status, body) == (200, b"inside")


@pytest.mark.parametrize(
    "change",
    [
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "guess"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": f"http://127.0.0.1:{PORT + 1}"},
        {"Origin": f"https://{OWN}"},
    ],
)
def test_change_from_other_origin_is_refused(change: dict[str, str]) -> None:
    access = Access(PORT)
    assert ask(access, "POST", "/send", {**enter(access), **change})[0] == 403


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1.evil:{PORT}", ""])
@pytest.mark.parametrize("path", ["/", "/login", "/static/console.js", "/healthz"])
def test_request_with_rebound_host_is_refused(host: str, path: str) -> None:
    access = Access(PORT)
    status, _, body = ask(access, "GET", path, {**enter(access), "Host": host})
    assert status == 421
    assert b"inside" not in body


def test_every_answer_carries_the_policy() -> None:
    access = Access(PORT)
    for headers in ({}, enter(access), {"Host": "evil"}):
        _, head, _ = ask(access, "GET", "/", headers)
        assert head["content-security-policy"] == POLICY
        assert head["x-content-type-options"] == "nosniff"
        assert head["referrer-policy"] == "no-referrer"
        assert head["cache-control"] == "no-store"
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY


def test_session_after_leaving_is_refused() -> None:
    access = Access(PORT)
    headers = enter(access)
    access.leave(headers["Cookie"].partition("=")[2])
    assert ask(access, "POST", "/send", headers)[0] == 401


def test_broken_cookie_header_is_no_session() -> None:
    assert ask(Access(PORT), "GET", "/", {"Cookie": "=;;\x7f=[]"})[0] == 303
