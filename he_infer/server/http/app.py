"""The ASGI application of a service: its routes, its refusals and its shutdown."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from he_infer import __version__
from he_infer.server.http import health, inference, objects, refusals
from he_infer.server.http.admission import Admission
from he_infer.server.http.classify import Classify, ClassifyFirst
from he_infer.server.http.middleware import Observation
from he_infer.server.service import Service
from he_infer.wire.refusals import Refused

_Answer = Callable[[Request, Exception], Awaitable[Response]]


def build_app(service: Service, admission: Admission) -> ASGIApp:
    """Make the ASGI application over a service, which it stops at shutdown."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(service.stop)

    app = FastAPI(
        title="he-infer server",
        version=__version__,
        description="Encrypted inference and storage of sealed objects. The server holds no key that opens either.",
        openapi_url=None,  # answered among the strangers' turns, see `health`
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    for room in (health, inference, objects):
        app.include_router(room.build_router(service, admission))
    answers = (
        (Refused, refusals.answer_refused),
        (RequestValidationError, refusals.answer_invalid),
        (HTTPException, refusals.answer_http),
    )
    for kind, answer in answers:
        app.add_exception_handler(kind, _counted(admission, answer))
    app.add_middleware(Observation, service=service)
    return ClassifyFirst(Observation(Classify(service, admission), service), app)


def _counted(admission: Admission, answer: _Answer) -> _Answer:
    """Count each refusal against the client, or the address, whose request it was."""

    async def count_and_answer(request: Request, error: Exception) -> Response:
        await admission.count_refusal(request, error)
        return await answer(request, error)

    return count_and_answer
