"""What the server remembers: tokens, keys, nonces, limits and objects, over a restart and from several threads."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from he_infer.errors import UnsupportedVersion, UsageError
from he_infer.refusals import Code, Refused
from he_infer.server import metadata as module
from he_infer.server.access import authenticate
from he_infer.server.metadata import Caller, KeyPart, KeyRecord, Metadata, ObjectRecord
from he_infer.server.tokens import NewToken, Scope, new_token, parse_scopes, token_id

BOTH = frozenset({Scope.CLASSIFY, Scope.STORE})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Metadata]:
    metadata = Metadata.sqlite(tmp_path / "m.sqlite3")
    yield metadata
    metadata.close()


def client(database: Metadata, name: str = "a", **quotas: int) -> tuple[Caller, NewToken]:
    token = new_token()
    database.add_token(name, token, BOTH, **quotas)
    return authenticate(database, token.text, Scope.STORE), token


def record(object_id: str, size: int = 10) -> ObjectRecord:
    return ObjectRecord(object_id, f"objects/{object_id}", size, "0" * 64, 1.0)


def refused(code: Code) -> "pytest.RaisesExc[Refused]":
    return pytest.RaisesExc(Refused, check=lambda error: error.code is code)


def test_a_token_speaks_for_its_client(database: Metadata) -> None:
    caller, token = client(database, "St. Mary")
    assert (caller.client, caller.scopes) == ("St. Mary", BOTH)
    assert caller.token_id == token_id(token.text)


def test_the_token_itself_is_nowhere_in_the_database(tmp_path: Path, database: Metadata) -> None:
    _, token = client(database)
    database.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token.digest.encode() in stored
    assert token.text.encode() not in stored
    assert token.text.rpartition("_")[2].encode() not in stored


@pytest.mark.parametrize("bad", [None, "", "hei_", "Bearer x", "hei_0123456789abcdef_" + "A" * 43, "\x00" * 70])
def test_what_is_no_token_is_refused(database: Metadata, bad: str | None) -> None:
    client(database)
    with refused(Code.UNAUTHORISED):
        authenticate(database, bad, Scope.CLASSIFY)


def test_a_right_id_with_a_wrong_secret_is_refused(database: Metadata) -> None:
    _, token = client(database)
    forged = token.text[:-1] + ("A" if token.text[-1] != "A" else "B")
    with refused(Code.UNAUTHORISED):
        authenticate(database, forged, Scope.CLASSIFY)


def test_a_scope_that_is_not_held_is_forbidden(database: Metadata) -> None:
    _, token = client(database)
    with refused(Code.FORBIDDEN):
        authenticate(database, token.text, Scope.ADMIN)


def test_an_expired_token_is_refused(database: Metadata) -> None:
    token = new_token()
    database.add_token("a", token, BOTH, expires=time.time() - 1)
    with refused(Code.UNAUTHORISED):
        authenticate(database, token.text, Scope.STORE)


def test_a_revoked_token_is_refused_at_once_and_others_of_the_client_are_not(database: Metadata) -> None:
    _, old = client(database)
    _, new = client(database)
    database.revoke_token(old.token_id)
    with refused(Code.UNAUTHORISED):
        authenticate(database, old.text, Scope.STORE)
    assert authenticate(database, new.text, Scope.STORE)
    with pytest.raises(UsageError):
        database.revoke_token("0" * 16)


def test_two_tokens_of_a_client_are_one_tenant(database: Metadata) -> None:
    one, _ = client(database)
    two, _ = client(database)
    other, _ = client(database, "b")
    assert one.client_id == two.client_id != other.client_id


def test_scopes_are_read_or_refused() -> None:
    assert parse_scopes(["classify", "admin"]) == {Scope.CLASSIFY, Scope.ADMIN}
    with pytest.raises(UsageError):
        parse_scopes(["everything"])
    with pytest.raises(UsageError):
        parse_scopes([])


def test_keys_are_kept_over_a_restart_and_replaced_as_one(tmp_path: Path) -> None:
    first = Metadata.sqlite(tmp_path / "m.sqlite3")
    caller, _ = client(first)
    old = KeyRecord("k1", "p" * 64, "tenseal-0", 1.0, (KeyPart("galois", 3, "aa"), KeyPart("relin", 4, "bb")))
    assert first.put_keys(caller.client_id, old) is None
    first.close()
    second = Metadata.sqlite(tmp_path / "m.sqlite3")
    assert second.keys(caller.client_id) == [old]
    new = KeyRecord("k2", old.plan, "tenseal-0", 2.0, ())
    assert second.put_keys(caller.client_id, new) == "k1"
    assert second.keys(caller.client_id, old.plan) == [new]
    assert second.key_ids() == {"k2"}
    assert second.delete_keys(caller.client_id, old.plan) == "k2"
    assert second.delete_keys(caller.client_id, old.plan) is None
    second.close()


def test_keys_of_another_client_are_not_there(database: Metadata) -> None:
    one, _ = client(database)
    other, _ = client(database, "b")
    database.put_keys(one.client_id, KeyRecord("k", "p", "s", 1.0, ()))
    assert database.keys(other.client_id) == []
    assert database.delete_keys(other.client_id, "p") is None


def test_a_nonce_counts_once_per_client(database: Metadata) -> None:
    one, _ = client(database)
    other, _ = client(database, "b")
    database.use_nonce(one.client_id, "n", time.time() + 60)
    database.use_nonce(other.client_id, "n", time.time() + 60)
    with refused(Code.REPLAYED):
        database.use_nonce(one.client_id, "n", time.time() + 60)
    assert database.forget_nonces(time.time() + 61) == 2
    database.use_nonce(one.client_id, "n", time.time() + 60)


def test_the_daily_limit_counts_images_and_refunds(database: Metadata) -> None:
    caller, _ = client(database, daily_queries=5)
    soon = time.time() + 60
    database.admit_query(caller, "n1", soon, "m", 3)
    with refused(Code.QUERY_LIMIT):
        database.admit_query(caller, "n2", soon, "m", 3)
    database.refund_query(caller.client_id, "m", 3)
    database.admit_query(caller, "n2", soon, "m2", 5)
    assert database.queries(caller.client_id, int(time.time() // 86400)) == 5


def test_a_refused_query_uses_neither_nonce_nor_count(database: Metadata) -> None:
    caller, _ = client(database, daily_queries=1)
    with refused(Code.QUERY_LIMIT):
        database.admit_query(caller, "n", time.time() + 60, "m", 2)
    database.admit_query(caller, "n", time.time() + 60, "m", 1)


def test_objects_are_created_once_and_belong_to_one_client(database: Metadata) -> None:
    one, _ = client(database)
    other, _ = client(database, "b")
    database.add_object(one, record("a" * 32))
    with refused(Code.EXISTS):
        database.add_object(one, record("a" * 32))
    assert database.find_object(other.client_id, "a" * 32) is None
    assert database.delete_object(other.client_id, "a" * 32) is None
    assert database.find_object(one.client_id, "a" * 32) == record("a" * 32)


def test_pages_follow_the_order_of_ids(database: Metadata) -> None:
    caller, _ = client(database)
    ids = [f"{number:032x}" for number in range(7)]
    for object_id in reversed(ids):
        database.add_object(caller, record(object_id))
    first = database.list_objects(caller.client_id, "", 4)
    rest = database.list_objects(caller.client_id, first[-1].object_id, 4)
    assert [entry.object_id for entry in first + rest] == ids


def test_the_storage_quota_bounds_the_sum_of_sizes(database: Metadata) -> None:
    caller, _ = client(database, storage_quota=25)
    database.add_object(caller, record("a" * 32))
    database.add_object(caller, record("b" * 32))
    with refused(Code.QUOTA):
        database.add_object(caller, record("c" * 32))
    database.delete_object(caller.client_id, "a" * 32)
    database.add_object(caller, record("c" * 32))


def test_many_threads_count_exactly(database: Metadata) -> None:
    caller, _ = client(database, daily_queries=40)
    refusals: list[Code] = []

    def work(worker: int) -> None:
        for turn in range(10):
            try:
                database.admit_query(caller, f"{worker}-{turn}", time.time() + 60, "m", 1)
            except Refused as error:
                refusals.append(error.code)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refusals == [Code.QUERY_LIMIT] * 20
    assert database.queries(caller.client_id, int(time.time() // 86400)) == 40


def test_another_schema_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Metadata.sqlite(tmp_path / "m.sqlite3").close()
    monkeypatch.setattr(module, "SCHEMA_VERSION", 2)
    with pytest.raises(UnsupportedVersion, match="version 1"):
        Metadata.sqlite(tmp_path / "m.sqlite3")


def test_a_database_that_is_none_is_a_documented_refusal(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite3"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with refused(Code.STORAGE):
        Metadata.sqlite(path)
