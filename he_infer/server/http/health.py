"""Routes for health, readiness and metrics, for the server's versions, limits and public key, and its document."""

import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from he_infer import __version__
from he_infer.server.evidence.telemetry import METRICS_TYPE
from he_infer.server.http.admission import Admission
from he_infer.server.http.openapi import refusing
from he_infer.server.http.parameters import Credentials, bearer
from he_infer.server.service import Service
from he_infer.server.tokens import Scope
from he_infer.wire import bodies
from he_infer.wire import envelope as wire
from he_infer.wire.refusals import Code


def build_router(service: Service, admission: Admission) -> APIRouter:
    """Build the routes of health, metrics and server information."""
    router = APIRouter()

    @router.get("/healthz", tags=["operations"], responses=refusing(Code.BUSY))
    async def healthz(request: Request) -> bodies.Health:
        """The process answers. Needs no token."""
        await admission.meet(request)
        return bodies.Health(status="ok")

    @router.get("/readyz", tags=["operations"], responses=refusing(Code.DRAINING, Code.BUSY))
    async def readyz(request: Request) -> bodies.Health:
        """The server can serve: database, workers. Needs no token."""
        await admission.meet(request)
        await admission.run(service.check_ready)
        return bodies.Health(status="ready")

    @router.get("/metrics", tags=["operations"], responses={**refusing(), 200: {"content": {"text/plain": {}}}})
    async def metrics(request: Request, credentials: Credentials) -> Response:
        """Prometheus metrics. Needs the scope `admin`."""
        await admission.authenticate(request, bearer(credentials), Scope.ADMIN)
        return Response(service.metrics.render(), media_type=METRICS_TYPE)

    @router.get("/v1/info", tags=["protocol"], responses=refusing(Code.BUSY))
    async def info(request: Request) -> bodies.Info:
        """Versions, limits and the server's public key. Needs no token."""
        await admission.meet(request)
        settings = service.settings
        return bodies.Info(
            service="he-infer",
            version=__version__,
            protocol=bodies.Protocol(min=wire.VERSION, max=wire.VERSION),
            seal=service.seal,
            engine=service.engine.name,
            receipt_key=service.signer.public_key,
            time=int(time.time() * 1000),
            limits=bodies.BodyLimits(keys=settings.max_keys, request=settings.max_request, object=settings.max_object),
        )

    @router.get("/openapi.json", include_in_schema=False)
    async def document(request: Request) -> JSONResponse:
        await admission.meet(request)
        return JSONResponse(request.app.openapi())

    return router
