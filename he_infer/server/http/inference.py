"""Routes of encrypted inference: the models, a client's evaluation keys, and classification."""

from fastapi import APIRouter, Request, Response

from he_infer.server.http import classify as classify_first
from he_infer.server.http.admission import Admission
from he_infer.server.http.body import announced_length
from he_infer.server.http.openapi import BINARY, BODY, refusing
from he_infer.server.http.parameters import Credentials, KeySet, ModelId, PlanDigest, bearer
from he_infer.server.message import Request as InferenceRequest
from he_infer.server.metadata import Caller
from he_infer.server.service import Service
from he_infer.server.tokens import Scope
from he_infer.wire import bodies
from he_infer.wire.refusals import Code

_ENVELOPE = (
    Code.LENGTH_REQUIRED,
    Code.TOO_LARGE,
    Code.BODY_TIMEOUT,
    Code.NOT_AN_ENVELOPE,
    Code.UNSUPPORTED_VERSION,
    Code.TRUNCATED,
    Code.STALE,
    Code.REPLAYED,
    Code.SECRET_KEY,
    Code.UNKNOWN_PLAN,
    Code.BUSY,
    Code.DRAINING,
    Code.WORKER_DIED,
    Code.WORKER_LIMIT,
)


def build_router(service: Service, admission: Admission) -> APIRouter:
    """Build the routes of evaluation keys and classification."""
    router = APIRouter(tags=["inference"])

    @router.get("/v1/models", responses=refusing())
    async def models(request: Request, credentials: Credentials) -> bodies.ModelList:
        """The models served, with the plans to pack features for. Needs the scope `classify`."""
        await admission.authenticate(request, bearer(credentials), Scope.CLASSIFY)
        return service.offer.models

    @router.put(
        "/v1/keys/{plan}/{key_set}",
        status_code=201,
        openapi_extra=BODY,
        responses=refusing(*_ENVELOPE, Code.BAD_KEYS, Code.KEYS_EXIST, Code.QUOTA),
    )
    async def register_keys(
        plan: PlanDigest, key_set: KeySet, request: Request, credentials: Credentials
    ) -> bodies.KeysStored:
        """Register a key set for a plan; a set is never replaced. Needs the scope `classify`."""
        caller = await admission.authenticate(request, bearer(credentials), Scope.CLASSIFY)
        room = await admission.run(service.key_sets.expect, caller, plan, announced_length(request))
        async with admission.bodies.whole(request, caller, service.offer.largest_keys(plan), room) as body:
            return await admission.run(service.key_sets.register, _make_request(request, caller), plan, key_set, body)

    @router.get("/v1/keys", responses=refusing())
    async def list_keys(request: Request, credentials: Credentials) -> bodies.KeysList:
        """The client's registered evaluation keys. Needs the scope `classify`."""
        caller = await admission.authenticate(request, bearer(credentials), Scope.CLASSIFY)
        return await admission.run(service.key_sets.list_all, caller)

    @router.delete("/v1/keys/{plan}/{key_set}", status_code=204, responses=refusing(Code.MISSING_KEYS))
    async def delete_keys(plan: PlanDigest, key_set: KeySet, request: Request, credentials: Credentials) -> Response:
        """Forget a key set for a plan. Needs the scope `classify`."""
        caller = await admission.authenticate(request, bearer(credentials), Scope.CLASSIFY)
        await admission.run(service.key_sets.delete, _make_request(request, caller), plan, key_set)
        return Response(status_code=204)

    @router.post(
        classify_first.PATH,
        openapi_extra=BODY,
        response_class=Response,
        responses={
            **refusing(
                *_ENVELOPE,
                Code.UNKNOWN_MODEL,
                Code.MISSING_KEYS,
                Code.BAD_KEYS,
                Code.BAD_CIPHERTEXT,
                Code.QUERY_LIMIT,
                Code.DAMAGED,
            ),
            200: {**BINARY, "description": "An envelope with the encrypted scores and the receipt."},
        },
    )
    async def classify(model: ModelId, request: Request, credentials: Credentials) -> Response:
        """Evaluate a model's head on the ciphertexts of an envelope. Needs the scope `classify`."""
        return await classify_first.answer(service, admission, request, bearer(credentials), model)

    return router


def _make_request(request: Request, caller: Caller) -> InferenceRequest:
    return InferenceRequest(caller, request.state.request_id)
