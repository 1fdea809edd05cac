"""The server's database: tokens, keys, nonces, limits and objects, over a restart and from several threads."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from he_infer.errors import UsageError
from he_infer.server.authentication import authenticate
from he_infer.server.metadata import Caller, KeyPart, KeyRecord, Metadata, ObjectRecord, Question, Quotas
from he_infer.server.tokens import NewToken, Scope, new_token, parse_scopes, token_id
from he_infer.wire.refusals import Code, Refused

SET, OTHER_SET = "5" * 32, "6" * 32
BOTH = frozenset({Scope.CLASSIFY, Scope.STORE})


@pytest.fixture
def database(database_url: str) -> Iterator[Metadata]:
    metadata = Metadata(database_url)
    yield metadata
    metadata.close()


def admit(database: Metadata, caller: Caller, nonce: str, expires: float, model: str, images: int) -> None:
    database.questions.admit(caller, Question(model, "p", images, nonce, time.time(), expires, None, asked=time.time()))


def client(database: Metadata, name: str = "a", **quotas: int) -> tuple[Caller, NewToken]:
    token = new_token()
    database.tokens.add(name, token, BOTH, quotas=Quotas(**quotas))
    return authenticate(database, token.text, Scope.STORE), token


def record(object_id: str, size: int = 10, version: int = 1) -> ObjectRecord:
    return ObjectRecord(object_id, f"objects/{object_id}/{version}", size, "0" * 64, 1.0, version)


def refused(code: Code) -> "pytest.RaisesExc[Refused]":
    return pytest.RaisesExc(Refused, check=lambda error: error.code is code)


def test_token_authenticates_its_client(database: Metadata) -> None:
    caller, token = client(database, "St. Mary")
    assert (caller.client, caller.scopes) == ("St. Mary", BOTH)
    assert caller.token_id == token_id(token.text)


def test_the_token_itself_is_nowhere_in_the_database(tmp_path: Path) -> None:
    database = Metadata.sqlite(tmp_path / "m.sqlite3")
    _, token = client(database)
    database.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token.digest.encode() in stored
    assert token.text.encode() not in stored
    assert token.text.split("_", 2)[2].encode() not in stored


@pytest.mark.parametrize("bad", [None, "", "hei_", "Bearer x", "hei_0123456789abcdef_" + "A" * 43, "\x00" * 70])
def test_malformed_token_is_refused(database: Metadata, bad: str | None) -> None:
    client(database)
    with refused(Code.UNAUTHORISED):
        authenticate(database, bad, Scope.CLASSIFY)


def test_token_with_right_id_and_wrong_secret_is_refused(database: Metadata) -> None:
    _, token = client(database)
    forged = token.text[:-1] + ("A" if token.text[-1] != "A" else "B")
    with refused(Code.UNAUTHORISED):
        authenticate(database, forged, Scope.CLASSIFY)


def test_token_without_the_scope_is_forbidden(database: Metadata) -> None:
    _, token = client(database)
    with refused(Code.FORBIDDEN):
        authenticate(database, token.text, Scope.ADMIN)


def test_an_expired_token_is_refused(database: Metadata) -> None:
    token = new_token()
    database.tokens.add("a", token, BOTH, expires=time.time() - 1)
    with refused(Code.UNAUTHORISED):
        authenticate(database, token.text, Scope.STORE)


def test_a_revoked_token_is_refused_at_once_and_others_of_the_client_are_not(database: Metadata) -> None:
    _, old = client(database)
    _, new = client(database)
    database.tokens.revoke(old.token_id)
    with refused(Code.UNAUTHORISED):
        authenticate(database, old.text, Scope.STORE)
    assert authenticate(database, new.text, Scope.STORE)
    with pytest.raises(UsageError):
        database.tokens.revoke("0" * 16)


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


def test_key_sets_are_kept_over_a_restart_and_never_replaced(database_url: str) -> None:
    first = Metadata(database_url)
    caller, _ = client(first)
    parts = (KeyPart("galois", 3, "aa"), KeyPart("relin", 4, "bb"))
    old = KeyRecord("k1", "p" * 64, "tenseal-0", 1.0, parts, SET)
    assert first.keys.add(caller.client_id, old) == old
    first.close()
    second = Metadata(database_url)
    assert second.keys.find(caller.client_id, old.plan, SET) == old
    assert second.keys.add(caller.client_id, replace(old, key_id="k2", created=2.0)) == old
    with refused(Code.KEYS_EXIST):
        second.keys.add(caller.client_id, replace(old, key_id="k2", parts=()))
    beside = replace(old, key_id="k3", key_set=OTHER_SET, created=3.0)
    of_another_plan = replace(old, key_id="k4", plan="q" * 64, created=4.0)
    for record in (beside, of_another_plan):
        assert second.keys.add(caller.client_id, record) == record
    assert second.keys.list_all(caller.client_id) == [old, beside, of_another_plan]
    live, gone = f"keys/{caller.client_id}/k1/galois", f"keys/{caller.client_id}/k2/galois"
    assert second.blobs.unnamed([live, gone]) == [gone]
    assert second.keys.delete(caller.client_id, old.plan, SET) == "k1"
    assert second.keys.delete(caller.client_id, old.plan, SET) is None
    assert second.keys.list_all(caller.client_id) == [beside, of_another_plan]
    second.close()


def test_keys_of_another_client_are_not_found(database: Metadata) -> None:
    one, _ = client(database)
    other, _ = client(database, "b")
    database.keys.add(one.client_id, KeyRecord("k", "p", "s", 1.0, (), SET))
    assert database.keys.list_all(other.client_id) == []
    assert database.keys.delete(other.client_id, "p", SET) is None


def test_nonce_is_accepted_once_per_client(database: Metadata) -> None:
    one, _ = client(database)
    other, _ = client(database, "b")
    database.queries.use_nonce(one.client_id, "n", time.time(), time.time() + 60)
    database.queries.use_nonce(other.client_id, "n", time.time(), time.time() + 60)
    with refused(Code.REPLAYED):
        database.queries.use_nonce(one.client_id, "n", time.time(), time.time() + 60)
    assert database.queries.forget_nonces(time.time() + 61) == 2
    database.queries.use_nonce(one.client_id, "n", time.time(), time.time() + 60)


def test_the_daily_limit_counts_images_and_refunds(database: Metadata) -> None:
    caller, _ = client(database, daily_queries=5)
    soon = time.time() + 60
    admit(database, caller, "n1", soon, "m", 3)
    with refused(Code.QUERY_LIMIT):
        admit(database, caller, "n2", soon, "m", 3)
    database.queries.refund(caller.client_id, "m", 3, time.time())
    admit(database, caller, "n2", soon, "m2", 5)
    assert database.queries.count(caller.client_id, int(time.time() // 86400)) == 5


def test_a_refused_query_uses_neither_nonce_nor_count(database: Metadata) -> None:
    caller, _ = client(database, daily_queries=1)
    with refused(Code.QUERY_LIMIT):
        admit(database, caller, "n", time.time() + 60, "m", 2)
    admit(database, caller, "n", time.time() + 60, "m", 1)


def test_objects_are_created_once_and_belong_to_one_client(database: Metadata) -> None:
    one, _ = client(database)
    other, _ = client(database, "b")
    database.objects.add(one, record("a" * 32))
    with refused(Code.EXISTS):
        database.objects.add(one, record("a" * 32))
    assert database.objects.find(other.client_id, "a" * 32) is None
    assert database.objects.delete(other.client_id, "a" * 32) == []
    assert database.objects.find(one.client_id, "a" * 32) == record("a" * 32)


def test_pages_follow_the_order_of_ids(database: Metadata) -> None:
    caller, _ = client(database)
    ids = [f"{number:032x}" for number in range(7)]
    for object_id in reversed(ids):
        database.objects.add(caller, record(object_id))
    first = database.objects.list_page(caller.client_id, "", 4)
    rest = database.objects.list_page(caller.client_id, first[-1].object_id, 4)
    assert [entry.object_id for entry in first + rest] == ids


def test_the_storage_quota_bounds_the_sum_of_sizes(database: Metadata) -> None:
    caller, _ = client(database, storage_quota=25)
    database.objects.add(caller, record("a" * 32))
    database.objects.add(caller, record("b" * 32))
    with refused(Code.QUOTA):
        database.objects.add(caller, record("c" * 32))
    database.objects.delete(caller.client_id, "a" * 32)
    database.objects.add(caller, record("c" * 32))


def test_keys_count_against_the_storage_quota_too(database: Metadata) -> None:
    caller, _ = client(database, storage_quota=25)
    database.objects.add(caller, record("a" * 32))
    keys = KeyRecord("k1", "p" * 64, "s", 1.0, (KeyPart("galois", 12, "aa"),), SET)
    database.keys.add(caller.client_id, keys, quota=25)
    again = replace(keys, key_id="k2")
    assert database.keys.add(caller.client_id, again, quota=25).key_id == "k1"  # the same bytes take no more room
    other = KeyRecord("k3", "p" * 64, "s", 1.0, (KeyPart("galois", 15, "aa"),), OTHER_SET)
    with refused(Code.QUOTA):
        database.keys.add(caller.client_id, other, quota=25)
    assert [keys.key_id for keys in database.keys.list_all(caller.client_id)] == ["k1"]
    with refused(Code.QUOTA):
        database.objects.add(caller, record("b" * 32, size=4))


def test_versions_follow_one_another_and_old_ones_stay(database: Metadata) -> None:
    caller, _ = client(database)
    other, _ = client(database, "b")
    name = "a" * 32
    with refused(Code.VERSION_GAP):
        database.objects.add(caller, record(name, version=2))
    for version in (1, 2, 3):
        database.objects.add(caller, record(name, size=version, version=version))
        with refused(Code.EXISTS):
            database.objects.add(caller, record(name, version=version))
    with refused(Code.VERSION_GAP):
        database.objects.add(caller, record(name, version=5))
    assert database.objects.find(caller.client_id, name) == record(name, 3, 3)
    assert database.objects.find(caller.client_id, name, 1) == record(name, 1, 1)
    assert database.objects.list_versions(other.client_id, name) == []
    assert database.objects.find(other.client_id, name, 2) is None
    assert database.objects.delete_version(other.client_id, name, 1) is None
    with refused(Code.INVALID):
        database.objects.delete_version(caller.client_id, name, 3)
    assert database.objects.delete_version(caller.client_id, name, 1) == f"objects/{name}/1"
    assert [entry.version for entry in database.objects.list_versions(caller.client_id, name)] == [2, 3]
    database.objects.add(caller, record("b" * 32))
    newest = [(entry.object_id, entry.version) for entry in database.objects.list_page(caller.client_id, "", 10)]
    assert newest == [(name, 3), ("b" * 32, 1)]
    assert sorted(database.objects.delete(caller.client_id, name)) == [f"objects/{name}/2", f"objects/{name}/3"]


def test_total_query_limit_holds_for_each_model_and_does_not_reset(
    database: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, _ = client(database, total_queries=3)
    soon = time.time() + 60
    admit(database, caller, "n1", soon, "m", 2)
    admit(database, caller, "n2", soon, "other", 3)
    later = time.time() + 400 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    with refused(Code.QUERY_LIMIT):
        admit(database, caller, "n3", later, "m", 2)
    admit(database, caller, "n3", later, "m", 1)


def test_a_refund_after_midnight_is_taken_from_the_day_of_the_count(
    database: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, _ = client(database, daily_queries=3)
    today = time.time()
    admit(database, caller, "n1", today + 60, "m", 3)
    tomorrow = today + 86400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    admit(database, caller, "n2", tomorrow + 60, "m", 2)
    database.queries.refund(caller.client_id, "m", 3, today)
    assert database.queries.count(caller.client_id, int(today // 86400)) == 0
    assert database.queries.count(caller.client_id, int(tomorrow // 86400)) == 2


def test_registrations_an_hour_are_counted_apart_from_requests_and_over_a_restart(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    database = Metadata(database_url)
    caller, _ = client(database, requests_per_minute=3, registrations_per_hour=2)
    for _ in range(2):
        database.rates.admit_registration(caller)
    database.close()
    database = Metadata(database_url)
    with pytest.raises(Refused, match="2 key sets an hour") as caught:
        database.rates.admit_registration(caller)
    assert caught.value.code is Code.RATE_LIMIT
    assert caught.value.retry_after == pytest.approx(1800.0)
    for _ in range(3):
        database.rates.admit_request(caller)
    now += 1801.0
    database.rates.admit_registration(caller)
    with refused(Code.RATE_LIMIT):
        database.rates.admit_registration(caller)
    database.close()


def test_requests_a_minute_are_counted_over_a_restart(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    database = Metadata(database_url)
    caller, _ = client(database, requests_per_minute=3)
    for _ in range(3):
        database.rates.admit_request(caller)
    database.close()
    database = Metadata(database_url)
    with pytest.raises(Refused) as caught:
        database.rates.admit_request(caller)
    assert caught.value.code is Code.RATE_LIMIT
    assert caught.value.retry_after == pytest.approx(20.0)
    now += 20.1
    database.rates.admit_request(caller)
    with refused(Code.RATE_LIMIT):
        database.rates.admit_request(caller)
    now -= 5000.0  # a clock set back refills nothing, and forbids nothing for long
    with refused(Code.RATE_LIMIT):
        database.rates.admit_request(caller)
    now += 20.1
    database.rates.admit_request(caller)
    now += 1e6  # a clock set ahead fills the bucket once
    for _ in range(3):
        database.rates.admit_request(caller)
    with refused(Code.RATE_LIMIT):
        database.rates.admit_request(caller)
    database.close()


def test_rotated_token_stays_valid_for_the_grace_period(database: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    old, new, third = new_token(), new_token(), new_token()
    database.tokens.add("a", old, BOTH, expires=now + 90 * 86400)
    assert database.tokens.rotate(old.token_id, new, grace=3600, lifetime=None).token_id == old.token_id
    found = {record.token_id: record for record in database.tokens.list_all()}
    assert found[old.token_id].expires == pytest.approx(now + 3600)
    assert found[new.token_id].expires == pytest.approx(now + 90 * 86400)
    assert found[new.token_id].scopes == BOTH
    assert (
        authenticate(database, old.text, Scope.STORE).client_id
        == authenticate(database, new.text, Scope.STORE).client_id
    )
    now += 3601
    with refused(Code.UNAUTHORISED):
        authenticate(database, old.text, Scope.STORE)
    with pytest.raises(UsageError, match="no longer valid"):
        database.tokens.rotate(old.token_id, third, grace=0, lifetime=None)
    database.tokens.rotate(new.token_id, third, grace=0, lifetime=60)
    with refused(Code.UNAUTHORISED):
        authenticate(database, new.text, Scope.STORE)
    assert authenticate(database, third.text, Scope.STORE)


def test_bounds_are_changed_and_lifted(database: Metadata) -> None:
    client(database, storage_quota=5, daily_queries=6)
    _, token = client(database, total_queries=7)  # those not given stay
    assert authenticate(database, token.text, Scope.STORE).quotas == Quotas(5, 6, 7, None)
    database.clients.set_quotas("a", {"storage_quota": None, "requests_per_minute": 9})
    assert authenticate(database, token.text, Scope.STORE).quotas == Quotas(None, 6, 7, 9)
    with pytest.raises(UsageError):
        database.clients.set_quotas("nobody", {"storage_quota": 1})


def test_usage_of_clients_is_listed(database: Metadata) -> None:
    caller, _ = client(database)
    client(database, "b")
    for version in (1, 2):
        database.objects.add(caller, record("a" * 32, 10, version))
    database.keys.add(caller.client_id, KeyRecord("k1", "p" * 64, "s", 1.0, (KeyPart("galois", 12, "aa"),), SET))
    admit(database, caller, "n", time.time() + 60, "m", 4)
    one, other = database.clients.list_all()
    assert (one.name, one.objects, one.versions, one.object_bytes, one.key_bytes) == ("a", 1, 2, 20, 12)
    assert (one.images_today, one.images_ever) == (4, 4)
    assert (other.name, other.objects, other.object_bytes, other.images_ever) == ("b", 0, 0, 0)


def test_a_removed_client_leaves_nothing_and_no_one_else_loses_anything(database: Metadata) -> None:
    caller, token = client(database, requests_per_minute=5)
    other, kept = client(database, "b")
    for who in (caller, other):
        database.rates.admit_request(who)
        admit(database, who, "n", time.time() + 60, "m", 1)
        database.keys.add(who.client_id, KeyRecord(f"k{who.client}", "p", "s", 1.0, (KeyPart("galois", 3, "aa"),), SET))
    database.objects.add(caller, record("a" * 32))
    expected = {f"objects/{'a' * 32}/1", f"keys/{caller.client_id}/ka/galois"}
    assert set(database.clients.remove("a")) == expected
    with refused(Code.UNAUTHORISED):
        authenticate(database, token.text, Scope.STORE)
    with refused(Code.UNAUTHORISED):  # a request that was let in before
        database.objects.add(caller, record("b" * 32))
    assert [entry.name for entry in database.clients.list_all()] == ["b"]
    assert authenticate(database, kept.text, Scope.STORE)
    assert database.keys.list_all(other.client_id)
    with pytest.raises(UsageError):
        database.clients.remove("a")


def test_many_threads_create_one_version(database: Metadata) -> None:
    caller, _ = client(database, storage_quota=95)
    outcomes: list[str] = []

    def work(worker: int) -> None:
        for number in range(10):
            entry = ObjectRecord(f"{number:032x}", f"objects/{worker}-{number}", 10, "0" * 64, 1.0)
            try:
                database.objects.add(caller, entry)
                outcomes.append("stored")
            except Refused as error:
                outcomes.append(error.code.value)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("stored") == 9  # the tenth would exceed the quota
    assert set(outcomes) == {"stored", "exists", "quota"}


def test_all_rows_are_copied_to_a_database_of_any_kind(database: Metadata, tmp_path: Path) -> None:
    caller, token = client(database, daily_queries=3)
    for number in range(3):
        database.objects.add(caller, record(f"{number:032x}"))
    database.keys.add(caller.client_id, KeyRecord("k1", "p" * 64, "s", 1.0, (KeyPart("galois", 12, "aa"),), SET))
    admit(database, caller, "n", time.time() + 60, "m", 2)
    copy = Metadata.sqlite(tmp_path / "copy.sqlite3")
    assert copy.rows.copy_to(Metadata.sqlite(tmp_path / "empty.sqlite3").rows)["clients"] == 0
    counts = database.rows.copy_to(copy.rows)
    assert (counts["clients"], counts["object_versions"], counts["nonces"]) == (1, 3, 1)
    assert authenticate(copy, token.text, Scope.STORE) == caller
    assert copy.keys.list_all(caller.client_id) == database.keys.list_all(caller.client_id)
    assert list(copy.blobs.named()) == list(database.blobs.named())
    with refused(Code.REPLAYED):
        copy.queries.use_nonce(caller.client_id, "n", time.time(), time.time())
    with pytest.raises(UsageError, match="holds clients already"):
        database.rows.copy_to(copy.rows)
    copy.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://localhost/x", "mysql"),
        ("postgresql://u:secret@localhost/x", "password"),
        ("postgresql://u@localhost/x?password=secret", "password"),
    ],
)
def test_url_of_other_form_gives_one_line_without_password(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Metadata(url)
    assert "secret" not in str(caught.value).replace("secrets", "")


def test_many_threads_count_exactly(database: Metadata) -> None:
    caller, _ = client(database, daily_queries=40)
    refusals: list[Code] = []

    def work(worker: int) -> None:
        for turn in range(10):
            try:
                admit(database, caller, f"{worker}-{turn}", time.time() + 60, "m", 1)
            except Refused as error:
                refusals.append(error.code)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refusals == [Code.QUERY_LIMIT] * 20
    assert database.queries.count(caller.client_id, int(time.time() // 86400)) == 40


def test_file_that_is_not_a_database_gives_documented_refusal(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite3"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with refused(Code.STORAGE):
        Metadata.sqlite(path)


def test_question_gets_its_own_keys_and_counts_only_with_usable_ones(database: Metadata) -> None:
    caller, _ = client(database)
    parts = (KeyPart("galois", 3, "aa"), KeyPart("relin", 4, "bb"))
    kept = KeyRecord("k1", "p" * 64, "seal", 1.0, parts, "ab" * 16)
    database.keys.add(caller.client_id, kept)
    soon, today = time.time() + 60, int(time.time() // 86400)

    def ask(nonce: str, **changes: object) -> KeyRecord | None:
        asked = {"key_set": "ab" * 16, "plan": "p" * 64, "seal": "seal", **changes}
        return database.questions.admit(
            caller,
            Question(model="m", images=2, nonce=nonce, sent=time.time(), asked=time.time(), expires=soon, **asked),
        )

    assert ask("n1") == kept
    assert ask("n2", key_set="cd" * 16) is None
    assert ask("n2", plan="q" * 64) is None
    assert ask("n2", seal="another") == kept
    assert database.queries.count(caller.client_id, today) == 2  # what cannot be computed is not counted
    with refused(Code.REPLAYED):
        ask("n1")
    database.keys.ban("k1")
    banned = ask("n3")
    assert banned is not None
    assert banned.banned
    assert database.queries.count(caller.client_id, today) == 2


def test_the_default_of_hidden_models_holds_where_a_client_has_no_limit(database: Metadata) -> None:
    free, _ = client(database)
    bounded, _ = client(database, "b", daily_queries=9)
    soon = time.time() + 60

    def ask(caller: Caller, nonce: str, model: str = "m") -> None:
        database.questions.admit(
            caller, Question(model, "p", 3, nonce, time.time(), soon, None, "", 4, asked=time.time())
        )

    ask(free, "n1")
    with refused(Code.QUERY_LIMIT):
        ask(free, "n2")
    ask(free, "n2", model="another")
    for nonce in ("n1", "n2", "n3"):
        ask(bounded, nonce)
    with refused(Code.QUERY_LIMIT):
        ask(bounded, "n4")
