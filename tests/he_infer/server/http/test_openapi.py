"""The HTTP interface against its OpenAPI document: every answer is one that the document describes."""

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks

from he_infer.local_server import LocalServer
from he_infer.wire.refusals import Code

load_all_checks()

# Two checks ask for what the document cannot say: that arbitrary bytes make a good body (envelopes are authenticated,
# and a digest goes with an object), and that unknown query parameters are refused (HTTP has them ignored).
LEFT_OUT = [
    check
    for check in schemathesis.checks.CHECKS.get_all()
    if check.__name__ in ("positive_data_acceptance", "negative_data_rejection")
]

OPERATIONS = (
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /v1/info",
    "GET /v1/models",
    "GET /v1/keys",
    "PUT /v1/keys/{plan}/{key_set}",
    "DELETE /v1/keys/{plan}/{key_set}",
    "POST /v1/models/{model}/classify",
    "GET /v1/objects",
    "PUT /v1/objects/{object_id}",
    "GET /v1/objects/{object_id}",
    "DELETE /v1/objects/{object_id}",
    "GET /v1/objects/{object_id}/versions",
    "PUT /v1/objects/{object_id}/versions/{version}",
    "GET /v1/objects/{object_id}/versions/{version}",
    "DELETE /v1/objects/{object_id}/versions/{version}",
)

WITHOUT_PARAMETERS = ("GET /healthz", "GET /readyz", "GET /v1/info")


@pytest.fixture(scope="module")
def document(server: LocalServer) -> "schemathesis.BaseSchema":
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_exactly_two_checks_are_left_out() -> None:
    assert len(LEFT_OUT) == 2


def test_schema_tests_cover_all_operations(document: "schemathesis.BaseSchema") -> None:
    found = {f"{result.ok().method.upper()} {result.ok().path}" for result in document.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, id=f"{name}-{mode.value}")
        for name in OPERATIONS
        for mode in GenerationMode
        # A request without parameters and token cannot be invalid.
        if mode is GenerationMode.POSITIVE or name not in WITHOUT_PARAMETERS
    ],
)
def test_every_answer_is_documented(
    document: "schemathesis.BaseSchema", server: LocalServer, name: str, mode: GenerationMode
) -> None:
    method, path = name.split()
    operation = document[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    def try_all(case: "schemathesis.Case") -> None:
        response = case.call_and_validate(headers={"Authorization": f"Bearer {server.token}"}, excluded_checks=LEFT_OUT)
        if response.status_code >= 400:
            error = response.json()["error"]
            assert Code(error["code"])
            assert error["message"]
            assert error["request_id"] == response.headers["x-request-id"][0]

    try_all()


def test_the_document_needs_no_network_to_be_read(server: LocalServer) -> None:
    assert "http:" not in httpx2.get(f"{server.url}/openapi.json").raise_for_status().text
    for page in ("/docs", "/redoc"):
        assert httpx2.get(server.url + page).status_code == 404
