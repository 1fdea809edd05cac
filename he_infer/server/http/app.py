"""The ASGI application of a service: its routes, its refusals and its shutdown."""

import contextlib
from collections.abc import AsyncIterator

import anyio.to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from he_infer import __version__
from he_infer.server.http import health, inference, objects, refusals
from he_infer.server.http.admission import Admission
from he_infer.server.http.middleware import Observation
from he_infer.server.service import Service
from he_infer.wire.refusals import Refused


def build_app(service: Service) -> FastAPI:
    """Make the ASGI application over a service, which it stops at shutdown."""

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
    admission = Admission(service)
    for room in (health, inference, objects):
        app.include_router(room.build_router(service, admission))
    app.add_exception_handler(Refused, refusals.answer_refused)
    app.add_exception_handler(RequestValidationError, refusals.answer_invalid)
    app.add_exception_handler(HTTPException, refusals.answer_http)
    app.add_middleware(Observation, service=service)
    return app
