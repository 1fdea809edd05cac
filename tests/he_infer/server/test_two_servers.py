"""Two server processes on one PostgreSQL and one S3 serve the same clients; each keeps an audit log of its own."""

import contextlib
import hashlib
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import MissingKey, RequestRefused, ServerBusy, Unauthorised
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from he_infer.server.evidence import audit_log as audit
from he_infer.server.metadata import Metadata, Quotas
from he_infer.server.service import AUDIT_FILE, SIGNING_KEY_FILE
from he_infer.wire.refusals import Code
from tests.he_infer.server.support import services
from tests.he_infer.server.support.kit import Client, code_of, refusal


class Pair:
    """Two servers and the database that both use."""

    def __init__(self, one: LocalServer, other: LocalServer, metadata: Metadata) -> None:
        self.one = one
        self.other = other
        self.metadata = metadata

    def token(self, client: str, **quotas: int) -> str:
        made = tokens.new_token()
        scopes = frozenset({tokens.Scope.CLASSIFY, tokens.Scope.STORE})
        self.metadata.tokens.add(client, made, scopes, quotas=Quotas(**quotas))
        return made.text


@pytest.fixture(scope="module")
def pair(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory, postgres: services.Postgres, s3: services.S3
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    database = postgres.database()
    options = ["--workers", "1", "--database-url", database, "--blob-url", s3.bucket()]
    with LocalServer([bundle], folder / "one", options=options) as one:
        # Servers behind one address sign their receipts with one key, which the operator copies.
        (folder / "other").mkdir(mode=0o700)
        shutil.copy2(folder / "one" / SIGNING_KEY_FILE, folder / "other" / SIGNING_KEY_FILE)
        with LocalServer([bundle], folder / "other", token=one.token, options=options) as other:
            metadata = Metadata(database)
            yield Pair(one, other, metadata)
            metadata.close()


def sessions(pair: Pair, token: str) -> tuple[Session, Session]:
    return Session(pair.one.url, token, patience=0), Session(pair.other.url, token, patience=0)


def test_keys_registered_at_one_server_are_used_at_the_other(pair: Pair, features: np.ndarray) -> None:
    here, there = sessions(pair, pair.token("keys"))
    with here, there:
        client = Client(pair.one, here, pair.token("keys"))
        expected = client.scores(features)
        client.session = there
        assert {keys.plan for keys in there.key_sets()} == {client.plan.digest}
        assert np.allclose(client.scores(features), expected, atol=1e-2)
        assert here.server_key == there.server_key
        renewed = client.secret.evaluation_keys(client.plan)
        with pytest.raises(RequestRefused) as refused:  # a set is never replaced, at neither server
            there.register(client.plan, client.key_set, renewed)
        assert code_of(refused) is Code.KEYS_EXIST
        client.session = here
        assert np.allclose(client.scores(features), expected, atol=1e-2)
        there.forget_keys(client.plan.digest, client.key_set)
        with pytest.raises(MissingKey):
            client.scores(features)


def test_keys_replaced_while_a_request_waits_are_not_reported_as_damaged(pair: Pair, features: np.ndarray) -> None:
    text = pair.token("replacing")
    here, there = sessions(pair, text)
    with here, there:
        client = Client(pair.one, here, text)
        client.session = there
        stop, answered = threading.Event(), []

        def replace() -> None:
            with Session(pair.one.url, text) as session:
                while not stop.is_set():
                    session.forget_keys(client.plan.digest, client.key_set)
                    session.register(client.plan, client.key_set, client.keys)

        replacing = threading.Thread(target=replace)
        replacing.start()
        for _ in range(15):
            with contextlib.suppress(MissingKey):
                answered.append(client.scores(features))
        stop.set()
        replacing.join()
        answered.append(client.scores(features))
    for scores in answered:
        assert np.allclose(scores, answered[-1], atol=1e-2)


def test_a_token_revoked_through_one_is_refused_by_the_other_at_once(pair: Pair) -> None:
    text = pair.token("revoked")
    here, there = sessions(pair, text)
    with here, there:
        here.models()
        there.models()
        pair.metadata.tokens.revoke(text.split("_")[1])
        for session in (here, there):
            with pytest.raises(Unauthorised):
                session.models()


def test_envelope_sent_to_both_servers_is_accepted_once(pair: Pair, features: np.ndarray) -> None:
    here, _ = sessions(pair, pair.one.token)
    with here:
        client = Client(pair.one, here, pair.one.token)
        body = client.enveloped(client.encrypt(features))
        assert client.post(body).status_code == 200
        client.server = pair.other
        assert refusal(client.post(body)) is Code.REPLAYED
        body = client.enveloped(client.encrypt(features))
        outcomes: list[int] = []

        def post(server: LocalServer) -> None:
            sender = Client.__new__(Client)
            sender.server, sender.token, sender.model = server, client.token, client.model
            outcomes.append(sender.post(body).status_code)

        threads = [threading.Thread(target=post, args=(server,)) for server in (pair.one, pair.other) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == [200, 409, 409, 409, 409, 409]


def test_limits_are_counted_over_both_servers(pair: Pair, features: np.ndarray) -> None:
    text = pair.token("limited", daily_queries=3)
    here, there = sessions(pair, text)
    with here, there:
        client = Client(pair.one, here, text)
        for session in (here, there, here):
            client.session = session
            client.scores(features)
        for session in (here, there):
            client.session = session
            with pytest.raises((ServerBusy, RequestRefused), match="3 images a day; 3 are used"):
                client.scores(features)
    slow = pair.token("slow", requests_per_minute=2)
    here, there = sessions(pair, slow)
    with here, there:
        here.models()
        there.models()
        with pytest.raises(ServerBusy, match="2 requests a minute"):
            here.models()


def test_objects_and_versions_are_shared_and_created_once(pair: Pair) -> None:
    text = pair.token("objects", storage_quota=10_000_000)
    here, there = sessions(pair, text)
    with here, there:
        stored = here.put_object(b"first")
        assert there.get_object(stored.id) == b"first"
        assert there.put_object(b"second", stored.id, version=2).version == 2
        with pytest.raises(RequestRefused) as caught:
            here.put_object(b"another", stored.id, version=2)
        assert code_of(caught) is Code.EXISTS
        assert here.get_range(stored.id, 1, 3) == b"ec"
        assert here.get_object(stored.id, 1) == b"first"
        here.delete_object(stored.id)
        with pytest.raises(RequestRefused):
            there.get_object(stored.id)
    with Session(pair.other.url, pair.token("someone else")) as stranger:
        assert list(stranger.objects()) == []


def test_two_writers_of_one_version_store_it_once(pair: Pair) -> None:
    text = pair.token("race")
    for _ in range(5):
        object_id, outcomes = secrets.token_hex(16), []

        def put(server: LocalServer, data: bytes, object_id: str = object_id, outcomes: list[str] = outcomes) -> None:
            with Session(server.url, text, patience=0) as session:
                try:
                    outcomes.append(session.put_object(data, object_id).sha256)
                except RequestRefused as error:
                    outcomes.append(error.code)

        threads = [
            threading.Thread(target=put, args=(server, data))
            for server, data in ((pair.one, b"one"), (pair.other, b"other"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert "exists" in outcomes
        (winner,) = [outcome for outcome in outcomes if outcome != "exists"]
        with Session(pair.one.url, text) as session:
            assert hashlib.sha256(session.get_object(object_id)).hexdigest() == winner


def test_each_server_keeps_its_own_audit_chain(pair: Pair) -> None:
    for server in (pair.one, pair.other):
        with Session(server.url, server.token) as session:
            session.put_object(secrets.token_bytes(8))
        assert audit.verify(server.data_dir / AUDIT_FILE).entries > 0


def test_a_request_accepted_by_one_server_is_a_replay_at_the_other(pair: Pair, features: np.ndarray) -> None:
    here, _ = sessions(pair, pair.one.token)
    with here:
        client = Client(pair.one, here, pair.one.token)
        body = client.enveloped(client.encrypt(features))
        assert client.post(body).status_code == 200
        client.server = pair.other
        assert refusal(client.post(body)) is Code.REPLAYED


def test_lost_database_connection_is_reported_and_recovers(bundle: Path, tmp_path: Path) -> None:
    programs = services.postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with services.postgres(programs) as own:
        options = ["--workers", "1", "--database-url", own.database()]
        with (
            LocalServer([bundle], tmp_path / "data", options=options) as server,
            Session(server.url, server.token, patience=0) as session,
        ):
            stored = session.put_object(b"before")
            own.stop()
            for _ in range(2):
                with pytest.raises(ServerBusy, match="database cannot be used"):
                    session.put_object(b"meanwhile")
                answer = httpx2.get(f"{server.url}/readyz", timeout=30)
                assert refusal(answer) is Code.STORAGE
                assert httpx2.get(f"{server.url}/healthz").json() == {"status": "ok"}
            own.start()
            assert httpx2.get(f"{server.url}/readyz", timeout=30).json() == {"status": "ready"}
            assert session.get_object(stored.id) == b"before"
            assert [entry.id for entry in session.objects()] == [stored.id]
