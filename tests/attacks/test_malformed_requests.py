"""Malformed requests get documented refusals: huge numbers, malformed headers, clients that disconnect."""

import contextlib
import secrets
import time

import httpx2
import pytest

from he_infer.wire import envelope as wire
from tests.attacks.kit import Scene, begin
from tests.he_infer.server.support.kit import refusal


def header(**changes: object) -> dict[str, object]:
    stamp = {"nonce": secrets.token_hex(16), "time": int(time.time() * 1000)}
    return {"model": "m", "plan": "0" * 64, "key_set": "ab" * 16, **stamp, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"time": 10**400},
        {"time": -(10**400)},
        {"time": 10**4299},
        {"time": True},
        {"time": None},
        {"time": [1]},
        {"nonce": "x" * 32},
        {"nonce": 5},
        {"plan": {}},
        {"plan": "0" * 64},
        {"key_set": 3},
        {"model": ["m"]},
        {"more": "members"},
    ],
)
def test_a_header_of_a_wrong_form_is_a_documented_refusal(scene: Scene, changes: dict[str, object]) -> None:
    client = scene.honest
    named = header(model=client.model.id, plan=client.plan.digest, key_set=client.key_set) | changes
    body = wire.Envelope(wire.Kind.REQUEST, named, (("ct0", b"x"),)).encode()
    for path in (f"/v1/models/{client.model.id}/classify",):
        answer = httpx2.post(
            f"{scene.server.url}{path}", content=body, headers={"Authorization": f"Bearer {client.token}"}
        )
        assert 400 <= answer.status_code < 500
        assert refusal(answer)
    scene.no_defect()


@pytest.mark.parametrize("sent", [0, 1, 500])
def test_a_client_that_hangs_up_is_no_defect(scene: Scene, sent: int) -> None:
    for path in (f"/v1/models/{scene.honest.model.id}/classify", f"/v1/objects/{secrets.token_hex(16)}"):
        method = "POST" if "classify" in path else "PUT"
        headers = ("Content-Length: 1000", f"X-Content-SHA256: {'0' * 64}")
        with contextlib.suppress(OSError), begin(scene.server, method, path, scene.hostile, *headers) as connection:
            connection.sendall(b"a" * sent)
    time.sleep(0.3)
    scene.still_serves()
    scene.no_defect()
