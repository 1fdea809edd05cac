"""Refusals as HTTP answers: the status and headers of each, and its JSON."""

import json
from collections.abc import Sequence
from http import HTTPStatus

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from he_infer.wire.refusals import REFUSALS, Code, Refused


def error_body(code: Code, message: str, request_id: str) -> dict[str, dict[str, str]]:
    """Build the JSON of a refusal."""
    return {"error": {"code": code.value, "message": message, "request_id": request_id}}


async def answer_refused(request: Request, error: Exception) -> Response:
    """Answer a refusal that a route raised."""
    if not isinstance(error, Refused):
        raise error
    return _refusal(request, error.code, error.message, error.retry_after)


async def answer_invalid(request: Request, error: Exception) -> Response:
    """Answer a parameter that does not match its declared pattern or type."""
    where = "a parameter"
    if isinstance(error, RequestValidationError) and error.errors():
        where = " ".join(str(part) for part in error.errors()[0]["loc"])
    return _refusal(request, Code.INVALID, f"Not valid: {where}. See /openapi.json.")


async def answer_http(request: Request, error: Exception) -> Response:
    """Answer a request that the framework refuses before a route runs."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = {404: (Code.NOT_FOUND, "There is no such route."), 405: (Code.METHOD_NOT_ALLOWED, "Not with this method.")}
    code, message = known.get(status, (Code.INVALID, "The request cannot be understood."))
    response = _refusal(request, code, message)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def refusal_bytes(refused: Refused, request_id: str, headers: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, int]:
    """Make the whole answer to a request that the framework never sees; returns the size of its body too."""
    text = json.dumps(error_body(refused.code, refused.message, request_id), ensure_ascii=False, separators=(",", ":"))
    body, status = text.encode(), REFUSALS[refused.code].status
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(),
        *(name + b": " + value for name, value in headers),
        f"content-length: {len(body)}".encode(),
        b"content-type: application/json",
        f"x-request-id: {request_id}".encode(),
    ]
    if refused.retry_after is not None:
        lines.append(f"retry-after: {_whole_seconds(refused.retry_after)}".encode())
    return b"\r\n".join((*lines, b"", body)), len(body)


def _whole_seconds(seconds: float) -> int:
    return max(1, round(seconds))


def _refusal(request: Request, code: Code, message: str, retry_after: float | None = None) -> Response:
    request.state.outcome = code.value
    headers = {}
    if "transfer-encoding" in request.headers:
        # Where two parties may disagree about a body's end, the connection must not be used again.
        headers["Connection"] = "close"
    if retry_after is not None:
        headers["Retry-After"] = str(_whole_seconds(retry_after))
    if code is Code.UNAUTHORISED:
        headers["WWW-Authenticate"] = "Bearer"
    body = error_body(code, message, request.state.request_id)
    return JSONResponse(body, status_code=REFUSALS[code].status, headers=headers)
