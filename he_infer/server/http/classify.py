"""Answers classification requests before the framework sees them.

The framework's middleware, matching, dependencies and validation cost a quarter of the server's own processor time for
a linear head.
The route stands in the router too, which documents it and answers what is not exactly of its form; both call `answer`.
"""

import re
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.security.utils import get_authorization_scheme_param
from starlette.types import ASGIApp, Receive, Scope, Send

from he_infer.server import tokens
from he_infer.server.http.admission import Admission
from he_infer.server.http.openapi import OCTETS
from he_infer.server.http.refusals import answer_refused
from he_infer.server.message import Request as InferenceRequest
from he_infer.server.service import Service
from he_infer.wire.bodies import MODEL_ID
from he_infer.wire.refusals import Refused

PATH = "/v1/models/{model}/classify"
NAME = "classify"
_PATH = re.compile(PATH.replace("{model}", f"({MODEL_ID})"))


@dataclass(frozen=True)
class _Route:
    """Path and name of the route, for the log, the metrics and the recorder."""

    path: str = PATH
    name: str = NAME


async def answer(service: Service, admission: Admission, request: Request, token: str | None, model: str) -> Response:
    """Evaluate a model's head on the ciphertexts of an envelope.

    Raises:
        Refused: see docs/protocol.md.
    """
    caller = await admission.authenticate(request, token, tokens.Scope.CLASSIFY)
    await admission.refuse_busy(caller.client_id)  # before the body: a server that is full must not read on to say so
    async with admission.bodies.whole(request, caller, service.offer.largest_request(model)) as body:
        asked = InferenceRequest(caller, request.state.request_id)
        sealed = await admission.run(service.inference.classify, asked, model, body)
    return Response(sealed, media_type=OCTETS)


class ClassifyFirst:
    """Application that has classification requests answered by one application, and everything else by another.

    Args:
        classify: an application over `Classify`.
        rest: the framework's application.
    """

    def __init__(self, classify: ASGIApp, rest: ASGIApp) -> None:
        self._classify = classify
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] == "POST" and _PATH.fullmatch(scope["path"]):
            await self._classify(scope, receive, send)
        else:
            await self._rest(scope, receive, send)


class Classify:
    """Application that answers classification requests, and gets no others.

    Args:
        service: the service that classifies.
        admission: authentication, threads and bodies.
    """

    def __init__(self, service: Service, admission: Admission) -> None:
        self._service = service
        self._admission = admission
        self._route = _Route()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        model = scope["path"].split("/")[3]
        scope["route"] = self._route
        request = Request(scope, receive, send)
        scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
        bearer = token if scheme.lower() == "bearer" and token else None
        try:
            response = await answer(self._service, self._admission, request, bearer, model)
        except Refused as refused:
            await self._admission.count_refusal(request, refused)
            response = await answer_refused(request, refused)
        await response(scope, receive, send)
