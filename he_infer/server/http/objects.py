"""Routes of sealed objects: stored once, read whole or in ranges, listed, deleted; each in its versions."""

from typing import Any

from fastapi import APIRouter, Request, Response

from he_infer.server.http import ranges
from he_infer.server.http.admission import Admission
from he_infer.server.http.body import announced_length
from he_infer.server.http.openapi import BINARY, BODY, refusing
from he_infer.server.http.parameters import After, ContentDigest, Credentials, ObjectId, PageLimit, Version, bearer
from he_infer.server.service import Service
from he_infer.server.tokens import Scope
from he_infer.wire import bodies
from he_infer.wire.refusals import Code

_PUT = refusing(
    Code.LENGTH_REQUIRED,
    Code.TOO_LARGE,
    Code.BODY_TIMEOUT,
    Code.EXISTS,
    Code.VERSION_GAP,
    Code.QUOTA,
    Code.DIGEST_MISMATCH,
)
_GET: dict[int | str, dict[str, Any]] = {
    **refusing(Code.NOT_FOUND, Code.BAD_RANGE, Code.BUSY, Code.DAMAGED),
    200: {**BINARY, "description": "All of it; its SHA-256 is in X-Content-SHA256, its version in X-Object-Version."},
    206: {**BINARY, "description": "The range asked for."},
}


def build_router(service: Service, admission: Admission) -> APIRouter:
    """Build the routes of sealed objects."""
    router = APIRouter(tags=["objects"])

    async def store(
        request: Request, credentials: Credentials, object_id: str, version: int, sha256: str
    ) -> bodies.ObjectInfo:
        caller = await admission.authenticate(request, bearer(credentials), Scope.STORE)
        length = announced_length(request)
        with await admission.run(service.objects.expect, caller, object_id, length, version) as incoming:
            async for piece in admission.bodies.pieces(request, length):
                await admission.run(incoming.write, piece)
            async with admission.large_puts.of(caller.client_id, length):
                return await admission.run(
                    service.objects.put, caller, request.state.request_id, object_id, incoming, sha256, version
                )

    async def send(request: Request, credentials: Credentials, object_id: str, version: int | None) -> Response:
        caller = await admission.authenticate(request, bearer(credentials), Scope.STORE)
        record = await admission.run(service.objects.find, caller, object_id, version)
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": f'"{record.sha256}"',
            "X-Content-SHA256": record.sha256,
            "X-Object-Version": str(record.version),
        }
        wanted = ranges.resolve(request.headers.get("range"), record.size)
        start, end = wanted or (0, record.size)
        pieces = await admission.run(service.objects.read, caller, request.state.request_id, record, start, end)
        headers["Content-Length"] = str(end - start)
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{record.size}"
        return admission.downloads.answer(caller, pieces, 206 if wanted else 200, headers)

    @router.put("/v1/objects/{object_id}", status_code=201, openapi_extra=BODY, responses=_PUT)
    async def put_object(
        object_id: ObjectId, request: Request, credentials: Credentials, x_content_sha256: ContentDigest
    ) -> bodies.ObjectInfo:
        """Store a sealed object under a new id, as its version 1. Needs the scope `store`."""
        return await store(request, credentials, object_id, 1, x_content_sha256)

    @router.put(
        "/v1/objects/{object_id}/versions/{version}",
        status_code=201,
        openapi_extra=BODY,
        responses=_PUT,
    )
    async def put_version(
        object_id: ObjectId,
        version: Version,
        request: Request,
        credentials: Credentials,
        x_content_sha256: ContentDigest,
    ) -> bodies.ObjectInfo:
        """Store the version of an object that follows its newest one. Needs the scope `store`."""
        return await store(request, credentials, object_id, version, x_content_sha256)

    @router.get("/v1/objects/{object_id}", response_class=Response, responses=_GET)
    async def get_object(object_id: ObjectId, request: Request, credentials: Credentials) -> Response:
        """Read an object's newest version, or one range of it (`Range: bytes=first-last`). Needs the scope `store`."""
        return await send(request, credentials, object_id, None)

    @router.get("/v1/objects/{object_id}/versions/{version}", response_class=Response, responses=_GET)
    async def get_version(
        object_id: ObjectId, version: Version, request: Request, credentials: Credentials
    ) -> Response:
        """Read one version of an object, or one range of it. Needs the scope `store`."""
        return await send(request, credentials, object_id, version)

    @router.get("/v1/objects/{object_id}/versions", responses=refusing(Code.NOT_FOUND))
    async def list_versions(object_id: ObjectId, request: Request, credentials: Credentials) -> bodies.VersionList:
        """All versions of an object that there are. Needs the scope `store`."""
        caller = await admission.authenticate(request, bearer(credentials), Scope.STORE)
        return await admission.run(service.objects.versions, caller, object_id)

    @router.get("/v1/objects", responses=refusing())
    async def list_objects(
        request: Request, credentials: Credentials, after: After = "", limit: PageLimit = 1000
    ) -> bodies.ObjectList:
        """The client's objects in the order of their ids, each in its newest version. Needs the scope `store`."""
        caller = await admission.authenticate(request, bearer(credentials), Scope.STORE)
        return await admission.run(service.objects.page, caller, after, limit)

    @router.delete("/v1/objects/{object_id}", status_code=204, responses=refusing(Code.NOT_FOUND))
    async def delete_object(object_id: ObjectId, request: Request, credentials: Credentials) -> Response:
        """Delete an object with all its versions. Needs the scope `store`."""
        caller = await admission.authenticate(request, bearer(credentials), Scope.STORE)
        await admission.run(service.objects.delete, caller, request.state.request_id, object_id)
        return Response(status_code=204)

    @router.delete(
        "/v1/objects/{object_id}/versions/{version}",
        status_code=204,
        responses=refusing(Code.NOT_FOUND),
    )
    async def delete_version(
        object_id: ObjectId, version: Version, request: Request, credentials: Credentials
    ) -> Response:
        """Delete a version that is not the newest. Needs the scope `store`."""
        caller = await admission.authenticate(request, bearer(credentials), Scope.STORE)
        await admission.run(service.objects.delete_version, caller, request.state.request_id, object_id, version)
        return Response(status_code=204)

    return router
