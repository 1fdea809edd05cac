"""HTTP: routes, headers and status codes. The only module that knows them; what the routes do is in the service."""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio.to_thread
import structlog
from anyio import CapacityLimiter
from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from he_infer import __version__, wire
from he_infer.refusals import REFUSALS, Code, Refused
from he_infer.server import inference, ranges, schemas
from he_infer.server.metadata import Caller
from he_infer.server.observe import METRICS_TYPE
from he_infer.server.service import Service
from he_infer.server.tokens import Scope

_BEARER = HTTPBearer(auto_error=False, description="A token made by 'he-infer tokens add'.")
_OCTETS = "application/octet-stream"
_BINARY = {"content": {_OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
_BODY = {"requestBody": {**_BINARY, "required": True}}
_ANYWHERE = (Code.UNAUTHORISED, Code.FORBIDDEN, Code.RATE_LIMIT, Code.INVALID, Code.STORAGE, Code.INTERNAL)
_ENVELOPE = (
    Code.LENGTH_REQUIRED,
    Code.TOO_LARGE,
    Code.BODY_TIMEOUT,
    Code.NOT_AN_ENVELOPE,
    Code.UNSUPPORTED_VERSION,
    Code.TRUNCATED,
    Code.BAD_MAC,
    Code.STALE,
    Code.REPLAYED,
    Code.SECRET_KEY,
    Code.UNKNOWN_PLAN,
    Code.BUSY,
    Code.DRAINING,
    Code.WORKER_DIED,
    Code.WORKER_LIMIT,
)

PlanDigest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="Digest of a plan, from GET /v1/models.")]
ModelId = Annotated[str, Path(pattern="^[a-z0-9._-]{1,96}$", description="Id of a model, from GET /v1/models.")]
ObjectId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 random hex digits, chosen by the client.")]
Version = Annotated[int, Path(ge=1, le=2**31 - 1, description="Number of a version, from 1.")]
ContentDigest = Annotated[str, Header(description="SHA-256 of the body, hex.", pattern="^[0-9a-f]{64}$")]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
Result = TypeVar("Result")


def _responses(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of a route's refusals: one a status, with the codes and meanings in its description."""
    entries: dict[int | str, dict[str, Any]] = {}
    for code in (*_ANYWHERE, *codes):
        refusal = REFUSALS[code]
        line = f"`{code.value}`: {refusal.meaning}."
        entry = entries.setdefault(refusal.status, {"model": schemas.ErrorBody, "description": line})
        if line not in entry["description"]:
            entry["description"] += "\n\n" + line
    return entries


_PUT = _responses(
    Code.LENGTH_REQUIRED,
    Code.TOO_LARGE,
    Code.BODY_TIMEOUT,
    Code.EXISTS,
    Code.VERSION_GAP,
    Code.QUOTA,
    Code.DIGEST_MISMATCH,
)
_GET: dict[int | str, dict[str, Any]] = {
    **_responses(Code.NOT_FOUND, Code.BAD_RANGE, Code.DAMAGED),
    200: {**_BINARY, "description": "All of it; its SHA-256 is in X-Content-SHA256, its version in X-Object-Version."},
    206: {**_BINARY, "description": "The range asked for."},
}


def build(service: Service) -> FastAPI:
    """The ASGI application over a service, which it stops at shutdown."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(service.stop)

    app = FastAPI(
        title="he-infer server",
        version=__version__,
        description="Encrypted inference and storage of sealed objects. The server holds no key that opens either.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    call = _Caller(service)
    _add_public_routes(app, service, call)
    _add_inference_routes(app, service, call)
    _add_object_routes(app, service, call)
    app.add_exception_handler(Refused, _answer_refused)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_middleware(_Observed, service=service)
    return app


class _Caller:
    """What the routes share: threads for blocking calls, authentication, and bodies within their bounds."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        # A thread for each task that may wait or run, and some more, so that a refusal never waits for a thread.
        self._threads = CapacityLimiter(settings.queue + settings.workers + 32)
        self._free_bytes = settings.bodies_in_memory

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a blocking function in a thread."""
        return await anyio.to_thread.run_sync(partial(function, *args), limiter=self._threads)

    async def authenticate(
        self, request: Request, credentials: HTTPAuthorizationCredentials | None, scope: Scope
    ) -> Caller:
        """See `Service.authenticate`; the log line of the request names the client from then on."""
        token = credentials.credentials if credentials else None
        caller = await self.run(self._service.authenticate, token, scope)
        request.state.client = caller.client_id
        return caller

    @contextlib.asynccontextmanager
    async def body(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The whole body, of an announced length within the limit and within the memory set aside for all bodies."""
        length = announced_length(request)
        if length > limit:
            raise Refused(Code.TOO_LARGE, f"The body has {length} bytes; at most {limit} are accepted here.")
        if length > self._free_bytes:
            raise Refused(Code.BUSY, "Too many bodies are being received; try again in 1 s.", retry_after=1.0)
        self._free_bytes -= length
        try:
            data = bytearray()
            async with self.in_time():
                async for piece in request.stream():
                    data += piece
            yield bytes(data)
        finally:
            self._free_bytes += length

    @contextlib.asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Give a body only so long to arrive."""
        seconds = self._service.settings.body_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise Refused(Code.BODY_TIMEOUT, f"The body did not arrive within {seconds:g} s.") from error


def announced_length(request: Request) -> int:
    """The Content-Length.

    Raises:
        Refused: `length_required`, `invalid`.
    """
    text = request.headers.get("content-length")
    if text is None:
        raise Refused(Code.LENGTH_REQUIRED, "Send the body with a Content-Length.")
    if not (text.isascii() and text.isdigit()):
        raise Refused(Code.INVALID, "Content-Length must be a number.")
    return int(text)


def _add_public_routes(app: FastAPI, service: Service, call: _Caller) -> None:
    @app.get("/healthz", tags=["operations"])
    async def healthz() -> schemas.Health:
        """The process answers. Needs no token."""
        return schemas.Health(status="ok")

    @app.get("/readyz", tags=["operations"], responses=_responses(Code.DRAINING, Code.BUSY))
    async def readyz() -> schemas.Health:
        """The server can serve: database, workers. Needs no token."""
        await call.run(service.check_ready)
        return schemas.Health(status="ready")

    @app.get("/metrics", tags=["operations"], responses={**_responses(), 200: {"content": {"text/plain": {}}}})
    async def metrics(request: Request, credentials: Credentials) -> Response:
        """Prometheus metrics. Needs the scope `admin`."""
        await call.authenticate(request, credentials, Scope.ADMIN)
        return Response(service.metrics.render(), media_type=METRICS_TYPE)

    @app.get("/v1/info", tags=["protocol"])
    async def info() -> schemas.Info:
        """Versions, limits and the server's public key. Needs no token."""
        settings = service.settings
        return schemas.Info(
            service="he-infer",
            version=__version__,
            protocol=schemas.Protocol(min=wire.VERSION, max=wire.VERSION),
            seal=service.seal,
            receipt_key=service.signer.public_key,
            time=int(time.time() * 1000),
            limits=schemas.BodyLimits(keys=settings.max_keys, request=settings.max_request, object=settings.max_object),
        )


def _add_inference_routes(app: FastAPI, service: Service, call: _Caller) -> None:
    @app.get("/v1/models", tags=["inference"], responses=_responses())
    async def models(request: Request, credentials: Credentials) -> schemas.ModelList:
        """The models served, with the plans to pack features for. Needs the scope `classify`."""
        await call.authenticate(request, credentials, Scope.CLASSIFY)
        return schemas.ModelList.model_validate({"models": service.inference.models})

    @app.put(
        "/v1/keys/{plan}",
        status_code=201,
        tags=["inference"],
        openapi_extra=_BODY,
        responses=_responses(*_ENVELOPE, Code.BAD_KEYS),
    )
    async def register_keys(plan: PlanDigest, request: Request, credentials: Credentials) -> schemas.KeysStored:
        """Register evaluation keys for a plan, in the place of earlier ones. Needs the scope `classify`."""
        caller = await call.authenticate(request, credentials, Scope.CLASSIFY)
        async with call.body(request, service.settings.max_keys) as body:
            stored = await call.run(service.inference.register_keys, _asked(request, caller, credentials), plan, body)
        return schemas.KeysStored.model_validate(stored)

    @app.get("/v1/keys", tags=["inference"], responses=_responses())
    async def list_keys(request: Request, credentials: Credentials) -> schemas.KeysList:
        """The client's registered evaluation keys. Needs the scope `classify`."""
        caller = await call.authenticate(request, credentials, Scope.CLASSIFY)
        return schemas.KeysList.model_validate({"keys": await call.run(service.inference.list_keys, caller)})

    @app.delete("/v1/keys/{plan}", status_code=204, tags=["inference"], responses=_responses(Code.MISSING_KEYS))
    async def delete_keys(plan: PlanDigest, request: Request, credentials: Credentials) -> Response:
        """Forget the client's evaluation keys for a plan. Needs the scope `classify`."""
        caller = await call.authenticate(request, credentials, Scope.CLASSIFY)
        await call.run(service.inference.delete_keys, _asked(request, caller, credentials), plan)
        return Response(status_code=204)

    @app.post(
        "/v1/models/{model}/classify",
        tags=["inference"],
        openapi_extra=_BODY,
        response_class=Response,
        responses={
            **_responses(
                *_ENVELOPE, Code.UNKNOWN_MODEL, Code.MISSING_KEYS, Code.BAD_CIPHERTEXT, Code.QUERY_LIMIT, Code.DAMAGED
            ),
            200: {**_BINARY, "description": "An envelope with the encrypted scores and the receipt."},
        },
    )
    async def classify(model: ModelId, request: Request, credentials: Credentials) -> Response:
        """Evaluate a model's head on the ciphertexts of an envelope. Needs the scope `classify`."""
        caller = await call.authenticate(request, credentials, Scope.CLASSIFY)
        service.pool.check_room(caller.client_id)  # before the body: a server that is full must not read on to say so
        async with call.body(request, service.settings.max_request) as body:
            answer = await call.run(service.inference.classify, _asked(request, caller, credentials), model, body)
        return Response(answer, media_type=_OCTETS)


def _add_object_routes(app: FastAPI, service: Service, call: _Caller) -> None:
    async def store(
        request: Request, credentials: HTTPAuthorizationCredentials | None, object_id: str, version: int, sha256: str
    ) -> schemas.ObjectInfo:
        caller = await call.authenticate(request, credentials, Scope.STORE)
        with await call.run(service.vault.expect, caller, object_id, announced_length(request), version) as incoming:
            async with call.in_time():
                async for piece in request.stream():
                    await call.run(incoming.write, piece)
            stored = await call.run(
                service.vault.put, caller, request.state.request_id, object_id, incoming, sha256, version
            )
        return schemas.ObjectInfo.model_validate(stored)

    async def send(
        request: Request, credentials: HTTPAuthorizationCredentials | None, object_id: str, version: int | None
    ) -> Response:
        caller = await call.authenticate(request, credentials, Scope.STORE)
        record = await call.run(service.vault.find, caller, object_id, version)
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": f'"{record.sha256}"',
            "X-Content-SHA256": record.sha256,
            "X-Object-Version": str(record.version),
        }
        wanted = ranges.resolve(request.headers.get("range"), record.size)
        start, end = wanted or (0, record.size)
        pieces = await call.run(service.vault.read, caller, request.state.request_id, record, start, end)
        headers["Content-Length"] = str(end - start)
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{record.size}"
        return StreamingResponse(pieces, status_code=206 if wanted else 200, media_type=_OCTETS, headers=headers)

    @app.put("/v1/objects/{object_id}", status_code=201, tags=["objects"], openapi_extra=_BODY, responses=_PUT)
    async def put_object(
        object_id: ObjectId, request: Request, credentials: Credentials, x_content_sha256: ContentDigest
    ) -> schemas.ObjectInfo:
        """Store a sealed object under a new id, as its version 1. Needs the scope `store`."""
        return await store(request, credentials, object_id, 1, x_content_sha256)

    @app.put(
        "/v1/objects/{object_id}/versions/{version}",
        status_code=201,
        tags=["objects"],
        openapi_extra=_BODY,
        responses=_PUT,
    )
    async def put_version(
        object_id: ObjectId,
        version: Version,
        request: Request,
        credentials: Credentials,
        x_content_sha256: ContentDigest,
    ) -> schemas.ObjectInfo:
        """Store the version of an object that follows its newest one. Needs the scope `store`."""
        return await store(request, credentials, object_id, version, x_content_sha256)

    @app.get("/v1/objects/{object_id}", tags=["objects"], response_class=Response, responses=_GET)
    async def get_object(object_id: ObjectId, request: Request, credentials: Credentials) -> Response:
        """Read an object's newest version, or one range of it (`Range: bytes=first-last`). Needs the scope `store`."""
        return await send(request, credentials, object_id, None)

    @app.get("/v1/objects/{object_id}/versions/{version}", tags=["objects"], response_class=Response, responses=_GET)
    async def get_version(
        object_id: ObjectId, version: Version, request: Request, credentials: Credentials
    ) -> Response:
        """Read one version of an object, or one range of it. Needs the scope `store`."""
        return await send(request, credentials, object_id, version)

    @app.get("/v1/objects/{object_id}/versions", tags=["objects"], responses=_responses(Code.NOT_FOUND))
    async def list_versions(object_id: ObjectId, request: Request, credentials: Credentials) -> schemas.VersionList:
        """All versions of an object that there are. Needs the scope `store`."""
        caller = await call.authenticate(request, credentials, Scope.STORE)
        return schemas.VersionList.model_validate(await call.run(service.vault.versions, caller, object_id))

    @app.get("/v1/objects", tags=["objects"], responses=_responses())
    async def list_objects(
        request: Request,
        credentials: Credentials,
        after: Annotated[str, Query(pattern="^([0-9a-f]{32})?$", description="The last id already seen.")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    ) -> schemas.ObjectList:
        """The client's objects in the order of their ids, each in its newest version. Needs the scope `store`."""
        caller = await call.authenticate(request, credentials, Scope.STORE)
        return schemas.ObjectList.model_validate(await call.run(service.vault.page, caller, after, limit))

    @app.delete("/v1/objects/{object_id}", status_code=204, tags=["objects"], responses=_responses(Code.NOT_FOUND))
    async def delete_object(object_id: ObjectId, request: Request, credentials: Credentials) -> Response:
        """Delete an object with all its versions. Needs the scope `store`."""
        caller = await call.authenticate(request, credentials, Scope.STORE)
        await call.run(service.vault.delete, caller, request.state.request_id, object_id)
        return Response(status_code=204)

    @app.delete(
        "/v1/objects/{object_id}/versions/{version}",
        status_code=204,
        tags=["objects"],
        responses=_responses(Code.NOT_FOUND),
    )
    async def delete_version(
        object_id: ObjectId, version: Version, request: Request, credentials: Credentials
    ) -> Response:
        """Delete a version that is not the newest. Needs the scope `store`."""
        caller = await call.authenticate(request, credentials, Scope.STORE)
        await call.run(service.vault.delete_version, caller, request.state.request_id, object_id, version)
        return Response(status_code=204)


def _asked(request: Request, caller: Caller, credentials: HTTPAuthorizationCredentials | None) -> inference.Request:
    token = credentials.credentials if credentials else ""
    return inference.Request(caller, token, request.state.request_id)


def error_body(code: Code, message: str, request_id: str) -> dict[str, dict[str, str]]:
    """The JSON of a refusal."""
    return {"error": {"code": code.value, "message": message, "request_id": request_id}}


async def _answer_refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):
        raise error
    return _refusal(request, error.code, error.message, error.retry_after)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    where = "a parameter"
    if isinstance(error, RequestValidationError) and error.errors():
        where = " ".join(str(part) for part in error.errors()[0]["loc"])
    return _refusal(request, Code.INVALID, f"Not valid: {where}. See /openapi.json.")


async def _answer_http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = {404: (Code.NOT_FOUND, "There is no such route."), 405: (Code.METHOD_NOT_ALLOWED, "Not with this method.")}
    code, message = known.get(status, (Code.INVALID, "The request cannot be understood."))
    response = _refusal(request, code, message)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def _refusal(request: Request, code: Code, message: str, retry_after: float | None = None) -> Response:
    request.state.outcome = code.value
    headers = {}
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, round(retry_after)))
    if code is Code.UNAUTHORISED:
        headers["WWW-Authenticate"] = "Bearer"
    body = error_body(code, message, request.state.request_id)
    return JSONResponse(body, status_code=REFUSALS[code].status, headers=headers)


class _Observed:
    """Around every request: its id, its log line, its metrics, its record where one is kept, and a last net."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._log = structlog.get_logger("he_infer.access")

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watch = _Watch(receive, send, keep=self._service.recorder is not None)
        state = scope.setdefault("state", {})
        state.update(request_id=watch.request_id, outcome="ok", client=None)
        try:
            await self._app(scope, watch.receive, watch.send)
        except Exception:  # a defect: logged with its traceback, answered without one
            state["outcome"] = Code.INTERNAL.value
            self._log.exception("defect", request_id=watch.request_id)
            if not watch.status:
                await watch.refuse_internal()
        finally:
            self._report(scope, watch, state)

    def _report(self, scope: AsgiScope, watch: "_Watch", state: Mapping[str, Any]) -> None:
        outcome = str(state["outcome"])
        route = getattr(scope.get("route"), "path", "unknown")
        seconds = time.perf_counter() - watch.started
        self._service.metrics.answered(route, outcome, seconds, watch.received, watch.sent)
        self._log.info(
            "request",
            request_id=watch.request_id,
            client=state["client"],
            method=scope["method"],
            route=route,
            status=watch.status,
            outcome=outcome,
            ms=round(seconds * 1000, 1),
            received=watch.received,
            sent=watch.sent,
        )
        recorder = self._service.recorder
        if recorder is not None:
            name = getattr(scope.get("route"), "name", "unknown")
            recorder.save(recorder.next_number(), name, bytes(watch.body_in), bytes(watch.body_out))


class _Watch:
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
            error_body(Code.INTERNAL, "A defect of the server; tell its operator this id.", self.request_id)
        )
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body.encode()})
