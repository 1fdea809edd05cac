"""Two server processes on one database, as behind one address: each limit holds for both together.

Both kinds of database are tried: SQLite in a data folder that two processes of one machine share, and PostgreSQL.
"""

import hashlib
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import NotAuthentic
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from he_infer.server.metadata import Metadata, Quotas
from he_infer.server.service import DATABASE_FILE, SIGNING_KEY_FILE
from he_infer.wire import envelope as wire
from he_infer.wire.key_set import new_key_set
from tests.attacks.kit import FEATURES
from tests.he_infer.server.support import services
from tests.he_infer.server.support.kit import Client, client_of, write_bundle

TRIED = 6
"""Requests at each of the two servers, all at once."""


@dataclass
class Pair:
    """Two servers and the database that both use."""

    servers: tuple[LocalServer, LocalServer]
    metadata: Metadata
    options: list[str]
    """Those with which a further server uses the same database and store."""

    def token(self, **quotas: int) -> str:
        """A token of a new client with these bounds."""
        made = tokens.new_token()
        scopes = frozenset({tokens.Scope.CLASSIFY, tokens.Scope.STORE})
        self.metadata.tokens.add(f"client {secrets.token_hex(4)}", made, scopes, quotas=Quotas(**quotas))
        return made.text

    def at_both(self, call: Callable[[LocalServer, int], httpx2.Response], tried: int = TRIED) -> Counter[str]:
        """Call both servers at once, so many times each; returns how often each code came back."""
        begin = threading.Barrier(2 * tried)

        def run(number: int) -> str:
            begin.wait()
            answer = call(self.servers[number % 2], number)
            return "ok" if answer.is_success else str(answer.json()["error"]["code"])

        with ThreadPoolExecutor(2 * tried) as pool:
            return Counter(pool.map(run, range(2 * tried)))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    bundle = write_bundle(folder / "toy.hebundle")
    with ExitStack() as begun, pytest.MonkeyPatch.context() as patch:
        patch.delenv("HE_INFER_SERVER_REGISTRATIONS_PER_HOUR", raising=False)
        patch.setenv("HE_INFER_SERVER_QUEUE_SECONDS", "60")
        places = folder / "one", folder / ("one" if request.param == "sqlite" else "other")
        database, blobs = f"sqlite:///{places[0] / DATABASE_FILE}", places[0] / "blobs"
        if request.param == "postgresql":
            programs = services.postgres_programs()
            if programs is None:
                pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
            database = begun.enter_context(services.postgres(programs)).database()
        shared = ["--workers", "1", "--database-url", database, "--blob-url", f"file://{blobs}"]
        blobs.mkdir(mode=0o700, parents=True)
        places[0].chmod(0o700)
        one = begun.enter_context(LocalServer([bundle], places[0], options=shared))
        if places[1] != places[0]:  # servers behind one address sign with one key, which the operator copies
            places[1].mkdir(mode=0o700)
            shutil.copy2(places[0] / SIGNING_KEY_FILE, places[1] / SIGNING_KEY_FILE)
        other = begun.enter_context(LocalServer([bundle], places[1], token=one.token, options=shared))
        metadata = Metadata(database)
        begun.callback(metadata.close)
        yield Pair((one, other), metadata, shared)


def post(server: LocalServer, client: Client, body: bytes) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {client.token}"}
    return httpx2.post(
        f"{server.url}/v1/models/{client.model.id}/classify", content=body, headers=headers, timeout=120.0
    )


def put(server: LocalServer, token: str, path: str, body: bytes) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}", "X-Content-SHA256": hashlib.sha256(body).hexdigest()}
    return httpx2.put(f"{server.url}{path}", content=body, headers=headers, timeout=120.0)


def registration(client: Client, key_set: str, parts: Sequence[tuple[str, bytes]]) -> bytes:
    stamp = {"nonce": secrets.token_hex(16), "time": int(client.session.server_time * 1000)}
    return wire.Envelope(
        wire.Kind.KEYS, {"plan": client.plan.digest, "key_set": key_set, **stamp}, tuple(parts)
    ).encode()


def test_one_envelope_at_both_servers_at_once_is_accepted_once(pair: Pair) -> None:
    with client_of(pair.servers[0], pair.token()) as client:
        for _ in range(5):
            body = client.enveloped(client.encrypt(FEATURES))
            codes = pair.at_both(lambda server, _, body=body: post(server, client, body))
            assert codes == {"ok": 1, "replayed": 2 * TRIED - 1}


def test_a_nonce_in_another_envelope_at_the_other_server_is_refused(pair: Pair) -> None:
    with client_of(pair.servers[0], pair.token()) as client:
        nonce = secrets.token_hex(16)
        bodies = [client.enveloped(client.encrypt(FEATURES), nonce=nonce) for _ in range(2)]
        codes = [post(server, client, body) for server, body in zip(pair.servers, bodies, strict=True)]
        assert [answer.status_code for answer in codes] == [200, 409]


@pytest.mark.parametrize("limit", ["daily_queries", "total_queries"])
def test_a_limit_of_images_is_one_for_both(pair: Pair, limit: str) -> None:
    with client_of(pair.servers[0], pair.token(**{limit: 5})) as client:
        bodies = [client.enveloped(client.encrypt(FEATURES)) for _ in range(2 * TRIED)]
        codes = pair.at_both(lambda server, number: post(server, client, bodies[number]))
        assert codes == {"ok": 5, "query_limit": 2 * TRIED - 5}


def test_a_limit_of_requests_is_one_for_both(pair: Pair) -> None:
    token = pair.token(requests_per_minute=5)
    headers = {"Authorization": f"Bearer {token}"}
    codes = pair.at_both(lambda server, _: httpx2.get(f"{server.url}/v1/models", headers=headers, timeout=120.0))
    # A slow machine may take the twelve seconds in which one more is allowed.
    assert codes["rate_limit"] >= 2 * TRIED - 6
    assert set(codes) == {"ok", "rate_limit"}


def test_a_limit_of_registrations_is_one_for_both(pair: Pair) -> None:
    with client_of(pair.servers[0], pair.token(registrations_per_hour=4)) as client:  # which registers once
        bodies = [(new_key_set(), sorted(client.keys.items())) for _ in range(2 * TRIED)]

        def register(server: LocalServer, number: int) -> httpx2.Response:
            name, parts = bodies[number]
            return put(server, client.token, f"/v1/keys/{client.plan.digest}/{name}", registration(client, name, parts))

        codes = pair.at_both(register)
        assert codes == {"ok": 3, "rate_limit": 2 * TRIED - 3}
        assert len(client.session.key_sets()) == 4


def test_a_key_set_registered_at_both_at_once_is_one_of_the_two(pair: Pair) -> None:
    with client_of(pair.servers[0], pair.token()) as client:
        name = new_key_set()
        bodies = [registration(client, name, sorted(client.secret.evaluation_keys(client.plan).items())) for _ in "ab"]
        path = f"/v1/keys/{client.plan.digest}/{name}"
        codes = pair.at_both(lambda server, number: put(server, client.token, path, bodies[number % 2]), tried=1)
        assert codes == {"ok": 1, "keys_exist": 1}


def test_a_storage_quota_is_one_for_both(pair: Pair) -> None:
    size = 300_000
    token = pair.token(storage_quota=3 * size + size // 2)
    bodies = [secrets.token_bytes(size) for _ in range(2 * TRIED)]
    codes = pair.at_both(
        lambda server, number: put(server, token, f"/v1/objects/{secrets.token_hex(16)}", bodies[number])
    )
    assert set(codes) == {"ok", "quota"}
    assert codes["ok"] <= 3
    with Session(pair.servers[1].url, token) as session:
        assert sum(entry.size for entry in session.objects()) <= 3 * size


def test_answers_of_both_servers_carry_one_signature(pair: Pair) -> None:
    with client_of(pair.servers[0], pair.token()) as client, Session(pair.servers[1].url, client.token) as there:
        assert there.server_key == client.session.server_key
        here = client.scores(FEATURES)
        client.session = there
        assert np.allclose(client.scores(FEATURES), here, atol=1e-2)


def test_an_answer_of_a_server_with_a_signing_key_of_its_own_is_refused(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator forgot to copy the key to the third server: its answers pass for nobody's."""
    bundle = write_bundle(tmp_path / "toy.hebundle")
    with (
        LocalServer([bundle], tmp_path / "third", token=pair.servers[0].token, options=pair.options) as third,
        client_of(pair.servers[0], pair.token()) as client,
    ):
        with (
            Session(third.url, client.token, server_key=client.session.server_key) as pinned,
            pytest.raises(NotAuthentic, match="signs with another key"),
        ):
            pinned.models()
        stream, reached = httpx2.Client.stream, []

        def stream_elsewhere(self: httpx2.Client, method: str, path: str, **arguments: Any) -> Any:
            reached.append(path)
            return stream(self, method, f"{third.url}{path}", **arguments)

        monkeypatch.setattr(httpx2.Client, "stream", stream_elsewhere)  # as a balancer before both would send it
        with pytest.raises(NotAuthentic, match="signature is not the server's"):
            client.scores(FEATURES)
        assert reached
