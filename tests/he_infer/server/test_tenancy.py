"""Isolation of clients: on every route, data of another client gets the same answer as data that does not exist."""

import hmac
import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from he_infer.client.connection.session import Session
from he_infer.local_server import LocalServer
from he_infer.server import authentication as access
from he_infer.server import tokens
from he_infer.server.metadata import Metadata
from he_infer.wire.refusals import Code, Refused
from tests.he_infer.server.support.kit import Client, add_token, refusal

NAME = "ab" * 16


@pytest.fixture(scope="module")
def stranger(server: LocalServer) -> str:
    """The token of another client, with every scope."""
    return add_token(server, "stranger", *tokens.Scope)


@pytest.fixture(scope="module")
def owned(server: LocalServer) -> dict[str, str]:
    """Data of the first client: an object in two versions, and keys."""
    with Session(server.url, server.token) as session:
        client = Client(server, session, server.token)
        session.put_object(b"first", NAME)
        session.put_object(b"second", NAME, version=2)
        return {
            "object_id": NAME,
            "version": "1",
            "plan": client.plan.digest,
            "key_set": client.key_set,
            "model": client.model.id,
        }


def operations(server: LocalServer) -> list[tuple[str, str]]:
    """Every method and path of the interface, from its own description."""
    paths = httpx2.get(f"{server.url}/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_routes_neither_show_nor_change_data_of_another_client(
    server: LocalServer, stranger: str, owned: dict[str, str]
) -> None:
    tried = 0
    for method, path in operations(server):
        if "{" not in path:
            continue
        tried += 1
        url = server.url + path.format(**owned)
        body = secrets.token_bytes(64)
        headers = {"Authorization": f"Bearer {stranger}", "X-Content-SHA256": "0" * 64, "Range": "bytes=0-1"}
        mine = httpx2.request(method, url, headers=headers, content=body if method in ("PUT", "POST") else None)
        other = url.replace(NAME, "cd" * 16)
        nobody = httpx2.request(method, other, headers=headers, content=body if method in ("PUT", "POST") else None)
        # Exactly the same answer as for an id that does not exist.
        assert mine.status_code >= 400, (method, path)
        without_id = [json.loads(answer.text) for answer in (mine, nobody)]
        for answer in without_id:
            del answer["error"]["request_id"]
        assert without_id[0] == without_id[1], (method, path)
    assert tried >= 9
    listed = httpx2.get(f"{server.url}/v1/objects", headers={"Authorization": f"Bearer {stranger}"}).json()
    assert listed == {"objects": [], "next": None}
    assert httpx2.get(f"{server.url}/v1/keys", headers={"Authorization": f"Bearer {stranger}"}).json() == {"keys": []}
    with Session(server.url, server.token) as session:
        assert session.get_object(NAME) == b"second"
        assert session.get_object(NAME, 1) == b"first"
        assert {keys.plan for keys in session.key_sets()} == {owned["plan"]}


def test_request_without_token_is_refused_on_every_private_route(server: LocalServer, owned: dict[str, str]) -> None:
    public = {"/healthz", "/readyz", "/v1/info"}
    for method, path in operations(server):
        answer = httpx2.request(method, server.url + path.format(**owned), headers={"X-Content-SHA256": "0" * 64})
        assert (path in public) == (answer.status_code == 200), (method, path)
        if path not in public:
            assert refusal(answer) is Code.UNAUTHORISED


def test_same_object_id_of_two_clients_gives_two_objects(
    server: LocalServer, stranger: str, owned: dict[str, str]
) -> None:
    with Session(server.url, stranger) as session:
        session.put_object(b"not theirs", NAME)
        assert session.get_object(NAME) == b"not theirs"
        session.delete_object(NAME)
    with Session(server.url, server.token) as session:
        assert session.get_object(owned["object_id"]) == b"second"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("pvdx"), st.sampled_from("01")), max_size=12))
def test_any_order_of_steps_keeps_two_clients_apart(tmp_path: Path, steps: list[tuple[str, str, str]]) -> None:
    """Puts, new versions and deletes of two clients under the same names, against a model of one dictionary each."""
    from tests.he_infer.server.storage.test_objects import Place

    folder = tmp_path / secrets.token_hex(4)
    folder.mkdir()
    place = Place(folder, f"sqlite:///{folder / 'm.sqlite3'}", folder / "blobs")
    callers = {"a": place.other, "b": place.one}
    expected: dict[str, dict[str, list[bytes]]] = {"a": {}, "b": {}}
    for number, (who, what, name) in enumerate(steps):
        object_id, own, data = name * 32, expected[who], f"{who}{number}".encode()
        versions = own.get(object_id, [])
        match what:
            case "p" if not versions:
                place.put(callers[who], object_id, data)
                own[object_id] = [data]
            case "v" if versions:
                place.put(callers[who], object_id, data, version=len(versions) + 1)
                versions.append(data)
            case "d" if versions:
                place.objects.delete(callers[who], "r", object_id)
                del own[object_id]
            case _:
                with pytest.raises(Refused):
                    place.get(callers[who], object_id, version=len(versions) + 1)
    for who, objects in expected.items():
        page = place.objects.page(callers[who], "", 10).objects
        assert {entry.id: entry.version for entry in page} == {
            object_id: len(versions) for object_id, versions in objects.items()
        }
        for object_id, versions in objects.items():
            for number, data in enumerate(versions, start=1):
                assert place.get(callers[who], object_id, version=number) == data
    place.metadata.close()


def test_identifiers_are_random_and_long(server: LocalServer, owned: dict[str, str]) -> None:
    folders = [path.name for kind in ("objects", "keys") for path in (server.data_dir / "blobs" / kind).iterdir()]
    files = [path.name for path in (server.data_dir / "blobs" / "objects").rglob("*") if path.is_file()]
    assert folders
    assert files
    assert all(re.fullmatch(r"[0-9a-f]{32}", name) for name in [*folders, *files])
    assert owned["object_id"] not in files  # not even from the id does the blob's name follow


@pytest.mark.parametrize("case", ["unknown id", "wrong secret", "revoked", "right"])
def test_any_token_is_compared_once_and_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    metadata = Metadata.sqlite(tmp_path / "m.sqlite3")
    token = tokens.new_token()
    metadata.tokens.add("a", token, frozenset({tokens.Scope.STORE}))
    text = token.text
    if case == "unknown id":
        text = tokens.new_token().text
    elif case == "wrong secret":
        text = text[:-4] + "AAAA"
    elif case == "revoked":
        metadata.tokens.revoke(token.token_id)
    compared = spy(monkeypatch)
    if case == "right":
        access.authenticate(metadata, text, tokens.Scope.STORE)
    else:
        with pytest.raises(Refused) as caught:
            access.authenticate(metadata, text, tokens.Scope.STORE)
        assert caught.value.code is Code.UNAUTHORISED
    assert [len(pair[0]) for pair in compared] == [64]
    metadata.close()


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes | str, bytes | str]]:
    """Record the arguments of the constant-time comparison."""
    compared: list[tuple[bytes | str, bytes | str]] = []
    original: Callable[..., bool] = hmac.compare_digest

    def watched(a: bytes | str, b: bytes | str) -> bool:
        compared.append((a, b))
        return original(a, b)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    return compared
