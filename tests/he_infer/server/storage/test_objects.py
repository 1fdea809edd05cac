"""Sealed objects: created once, read whole or in ranges, visible to one client, stored whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from he_infer.errors import UsageError
from he_infer.server.authentication import authenticate
from he_infer.server.evidence import audit_log as audit
from he_infer.server.http.ranges import resolve
from he_infer.server.metadata import Caller, Metadata, ObjectRecord, Quotas
from he_infer.server.metadata.objects import Objects
from he_infer.server.storage import blobs as blobs_module
from he_infer.server.storage.blobs import Blobs
from he_infer.server.storage.objects import ObjectStore
from he_infer.server.storage.spool import Spool
from he_infer.server.tokens import Scope, new_token
from he_infer.wire.refusals import Code, Refused
from tests.he_infer.server.support import services

ID = "0123456789abcdef" * 2


def refused(code: Code) -> "pytest.RaisesExc[Refused]":
    return pytest.RaisesExc(Refused, check=lambda error: error.code is code)


class Place:
    """A vault with two clients."""

    def __init__(self, folder: Path, database: str, blobs: Path | str) -> None:
        self.folder = folder
        self.metadata = Metadata(database)
        self.blobs = Blobs(blobs)
        self.objects = ObjectStore(
            self.metadata, self.blobs, audit.AuditLog(folder / "audit.jsonl"), Spool(folder / "spool"), max_object=1000
        )
        self.one = self._client("one", storage_quota=2500)
        self.other = self._client("other")

    def _client(self, name: str, **quotas: int) -> Caller:
        token = new_token()
        self.metadata.tokens.add(name, token, frozenset({Scope.STORE}), quotas=Quotas(**quotas))
        return authenticate(self.metadata, token.text, Scope.STORE)

    def put(self, caller: Caller, object_id: str, data: bytes, sha256: str | None = None, version: int = 1) -> None:
        with self.objects.expect(caller, object_id, len(data), version) as incoming:
            incoming.write(data[:10])
            incoming.write(data[10:])
            digest = sha256 or hashlib.sha256(data).hexdigest()
            self.objects.put(caller, "r", object_id, incoming, digest, version)

    def get(
        self, caller: Caller, object_id: str, start: int = 0, end: int | None = None, version: int | None = None
    ) -> bytes:
        found = self.objects.find(caller, object_id, version)
        return b"".join(self.objects.read(caller, "r", found, start, found.size if end is None else end))


@pytest.fixture
def place(tmp_path: Path, database_url: str, blob_place: Path | str) -> Iterator[Place]:
    """A vault on each of the four pairs of database and store."""
    place = Place(tmp_path, database_url, blob_place)
    yield place
    place.metadata.close()


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 1000])
def test_stored_object_is_read_back_equal(place: Place, size: int) -> None:
    data = bytes(range(256)) * 4
    place.put(place.one, ID, data[:size])
    assert place.get(place.one, ID) == data[:size]


def test_range_read_gives_the_requested_bytes(place: Place) -> None:
    place.put(place.one, ID, bytes(range(200)))
    assert place.get(place.one, ID, 100, 150) == bytes(range(100, 150))


def test_an_object_is_never_overwritten(place: Place) -> None:
    place.put(place.one, ID, b"first")
    with refused(Code.EXISTS):
        place.put(place.one, ID, b"second")
    assert place.get(place.one, ID) == b"first"


def test_two_puts_at_the_same_time_leave_one_object_and_no_orphan(place: Place) -> None:
    with (
        place.objects.expect(place.one, ID, 5) as first,
        place.objects.expect(place.one, ID, 5) as second,
    ):
        first.write(b"first")
        second.write(b"other")
        place.objects.put(place.one, "r", ID, first, hashlib.sha256(b"first").hexdigest())
        with refused(Code.EXISTS):
            place.objects.put(place.one, "r", ID, second, hashlib.sha256(b"other").hexdigest())
    assert place.get(place.one, ID) == b"first"
    assert len(place.blobs.list("objects")) == 1


def test_object_of_another_client_is_not_found(place: Place) -> None:
    place.put(place.one, ID, b"mine")
    with refused(Code.NOT_FOUND):
        place.get(place.other, ID)
    with refused(Code.NOT_FOUND):
        place.objects.delete(place.other, "r", ID)
    place.put(place.other, ID, b"theirs")
    assert (place.get(place.one, ID), place.get(place.other, ID)) == (b"mine", b"theirs")
    assert [entry.id for entry in place.objects.page(place.other, "", 10).objects] == [ID]
    place.put(place.one, ID, b"mine again", version=2)
    with refused(Code.NOT_FOUND):
        place.get(place.other, ID, 0, 4, version=2)
    with refused(Code.VERSION_GAP):
        place.put(place.other, ID, b"theirs", version=3)
    with refused(Code.NOT_FOUND):
        place.objects.delete_version(place.other, "r", "f" * 32, 1)
    assert [entry.size for entry in place.objects.versions(place.other, ID).versions] == [6]
    place.objects.delete(place.other, "r", ID)
    with refused(Code.NOT_FOUND):
        place.objects.versions(place.other, ID)
    assert place.get(place.one, ID) == b"mine again"


def test_a_new_version_leaves_the_old_one_readable(place: Place) -> None:
    place.put(place.one, ID, b"first")
    place.put(place.one, ID, b"the second", version=2)
    with refused(Code.EXISTS):
        place.put(place.one, ID, b"another second", version=2)
    assert place.get(place.one, ID) == b"the second"
    assert place.get(place.one, ID, version=1) == b"first"
    assert place.get(place.one, ID, 1, 3, version=1) == b"ir"
    assert [entry.version for entry in place.objects.versions(place.one, ID).versions] == [1, 2]
    with refused(Code.NOT_FOUND):
        place.get(place.one, ID, version=3)
    with refused(Code.INVALID):
        place.objects.delete_version(place.one, "r", ID, 2)
    place.objects.delete_version(place.one, "r", ID, 1)
    assert len(place.blobs.list("objects")) == 1
    place.objects.delete(place.one, "r", ID)
    assert place.blobs.list("objects") == []


def test_object_deleted_while_it_is_read_is_not_found(place: Place) -> None:
    place.put(place.one, ID, b"data")
    found = place.objects.find(place.one, ID)
    place.objects.delete(place.one, "r", ID)
    with refused(Code.NOT_FOUND):
        place.objects.read(place.one, "r", found, 0, 4)


def test_a_row_that_was_committed_as_the_database_went_away_keeps_its_blob(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Objects.add

    def lost_after_commit(self: Objects, caller: Caller, record: ObjectRecord) -> None:
        commit(self, caller, record)
        raise Refused(Code.STORAGE, "The connection was lost.")

    monkeypatch.setattr(Objects, "add", lost_after_commit)
    with refused(Code.STORAGE):
        place.put(place.one, ID, b"data")
    assert place.get(place.one, ID) == b"data"


def test_a_wrong_digest_stores_nothing(place: Place) -> None:
    with refused(Code.DIGEST_MISMATCH):
        place.put(place.one, ID, b"data", "0" * 64)
    with refused(Code.NOT_FOUND):
        place.get(place.one, ID)
    assert place.blobs.list("objects") == []
    assert list((place.folder / "spool").iterdir()) == []


@pytest.mark.parametrize("object_id", ["", "x", "A" * 32, "../" * 10 + "ab", "0" * 31, "0" * 33, "é" * 32])
def test_an_id_of_another_form_is_refused(place: Place, object_id: str) -> None:
    with refused(Code.INVALID):
        place.put(place.one, object_id, b"data")
    with refused(Code.NOT_FOUND):
        place.objects.find(place.one, object_id)


def test_sizes_are_bounded_as_announced_and_as_sent(place: Place) -> None:
    with refused(Code.TOO_LARGE):
        place.objects.expect(place.one, ID, 1001)
    with place.objects.expect(place.one, ID, 5) as incoming, refused(Code.TOO_LARGE):
        incoming.write(bytes(1001))


def test_quota_counts_each_client_apart(place: Place) -> None:
    for number in range(2):
        place.put(place.one, f"{number:032x}", bytes(1000))
    with refused(Code.QUOTA):
        place.put(place.one, ID, bytes(1000))
    place.put(place.other, ID, bytes(1000))


def test_deleted_object_is_removed_from_the_disk(place: Place) -> None:
    place.put(place.one, ID, b"data")
    place.objects.delete(place.one, "r", ID)
    assert place.blobs.list("objects") == []
    with refused(Code.NOT_FOUND):
        place.objects.delete(place.one, "r", ID)


def test_pages_hold_all_objects_and_end_without_a_next_page(place: Place) -> None:
    ids = [f"{number:032x}" for number in range(5)]
    for object_id in ids:
        place.put(place.one, object_id, b"x")
    seen, after = [], ""
    while True:
        page = place.objects.page(place.one, after, 2)
        seen += [entry.id for entry in page.objects]
        if page.next is None:
            break
        after = page.next
    assert seen == ids


def test_every_object_operation_is_in_the_audit_log(place: Place) -> None:
    place.put(place.one, ID, b"data")
    place.get(place.one, ID)
    place.objects.delete(place.one, "r", ID)
    text = (place.folder / "audit.jsonl").read_text()
    assert audit.verify(place.folder / "audit.jsonl").entries == 3
    assert all(action in text for action in ("object.put", "object.get", "object.delete"))


def test_files_are_private(place: Place) -> None:
    with place.objects.expect(place.one, ID, 4) as incoming:
        assert incoming.path.stat().st_mode & 0o077 == 0
    if (place.folder / "blobs").exists():
        assert (place.folder / "blobs").stat().st_mode & 0o077 == 0


def test_blobs_are_created_once_and_listed_by_age(blob_place: Path | str) -> None:
    blobs = Blobs(blob_place)
    blobs.put_new("keys/a/1", b"one")
    with refused(Code.EXISTS):
        blobs.put_new("keys/a/1", b"two")
    assert blobs.get("keys/a/1") == b"one"
    assert blobs.list("keys") == ["keys/a/1"]
    assert blobs.list("keys", older_than=timedelta(hours=1)) == []
    blobs.delete("keys/a/1")
    blobs.delete("keys/a/1")
    with refused(Code.DAMAGED):
        blobs.get("keys/a/1")
    assert blobs.digest("keys/a/1") is None
    blobs.ping()


def test_large_blobs_are_written_in_parts_and_created_once_all_the_same(
    blob_place: Path | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "WHOLE", 1 << 20)
    blobs = Blobs(blob_place)
    data = os.urandom(6 << 20)
    (tmp_path / "body").write_bytes(data)
    blobs.put_new("objects/a/1", tmp_path / "body")
    with refused(Code.EXISTS):
        blobs.put_new("objects/a/1", tmp_path / "body")
    assert b"".join(blobs.stream("objects/a/1", 0, len(data))) == data
    assert b"".join(blobs.stream("objects/a/1", 5_000_000, 5_000_010)) == data[5_000_000:5_000_010]
    assert blobs.digest("objects/a/1") == (len(data), hashlib.sha256(data).hexdigest())


def test_unreachable_store_gives_documented_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blobs_module._RETRIES, "max_retries", 0)
    for name, value in {**services.S3_ENVIRONMENT, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    away = Blobs("s3://bucket/prefix")
    for attempt in (away.ping, lambda: away.get("a"), lambda: away.put_new("a", b"x"), lambda: away.digest("a")):
        with refused(Code.STORAGE):
            attempt()


@pytest.mark.parametrize("url", ["nonsense", "s4://bucket", "s3:///"])
def test_url_of_no_store_gives_one_line(url: str) -> None:
    with pytest.raises(UsageError, match="s3://bucket"):
        Blobs(url)


def test_half_written_file_of_killed_writer_is_removed(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "b")
    blobs.put_new("objects/a/1", b"whole")
    (tmp_path / "b" / "objects" / "a" / "2#1").write_bytes(b"ha")
    assert blobs.list("objects") == ["objects/a/1"]
    assert blobs.drop_leftovers(older_than=timedelta(hours=1)) == 0
    assert blobs.drop_leftovers(older_than=timedelta(0)) == 1
    assert blobs.get("objects/a/1") == b"whole"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,4-5", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_ranges_resolve_as_the_rfc_says(header: str | None, expected: tuple[int, int] | None) -> None:
    assert resolve(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_outside_is_refused(header: str) -> None:
    with refused(Code.BAD_RANGE):
        resolve(header, 100)
