"""Sealed objects: created once, read whole or in ranges, kept within a client, and never half there."""

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from he_infer.refusals import Code, Refused
from he_infer.server import audit
from he_infer.server.access import authenticate
from he_infer.server.blobs import Blobs
from he_infer.server.metadata import Caller, Metadata
from he_infer.server.ranges import resolve
from he_infer.server.tokens import Scope, new_token
from he_infer.server.vault import Vault

ID = "0123456789abcdef" * 2


def refused(code: Code) -> "pytest.RaisesExc[Refused]":
    return pytest.RaisesExc(Refused, check=lambda error: error.code is code)


class Place:
    """A vault on a folder, with two clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata = Metadata.sqlite(folder / "m.sqlite3")
        self.blobs = Blobs(folder / "blobs")
        self.vault = Vault(
            self.metadata, self.blobs, audit.AuditLog(folder / "audit.jsonl"), folder / "spool", max_object=1000
        )
        self.one = self._client("one", storage_quota=2500)
        self.other = self._client("other")

    def _client(self, name: str, **quotas: int) -> Caller:
        token = new_token()
        self.metadata.add_token(name, token, frozenset({Scope.STORE}), **quotas)
        return authenticate(self.metadata, token.text, Scope.STORE)

    def put(self, caller: Caller, object_id: str, data: bytes, sha256: str | None = None) -> None:
        with self.vault.expect(caller, object_id, len(data)) as incoming:
            incoming.write(data[:10])
            incoming.write(data[10:])
            self.vault.put(caller, "r", object_id, incoming, sha256 or hashlib.sha256(data).hexdigest())

    def get(self, caller: Caller, object_id: str, start: int = 0, end: int | None = None) -> bytes:
        found = self.vault.find(caller, object_id)
        return b"".join(self.vault.read(caller, "r", found, start, found.size if end is None else end))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.metadata.close()


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 1000])
def test_what_is_put_is_got(place: Place, size: int) -> None:
    data = bytes(range(256)) * 4
    place.put(place.one, ID, data[:size])
    assert place.get(place.one, ID) == data[:size]


def test_a_range_is_the_bytes_asked_for(place: Place) -> None:
    place.put(place.one, ID, bytes(range(200)))
    assert place.get(place.one, ID, 100, 150) == bytes(range(100, 150))


def test_an_object_is_never_overwritten(place: Place) -> None:
    place.put(place.one, ID, b"first")
    with refused(Code.EXISTS):
        place.put(place.one, ID, b"second")
    assert place.get(place.one, ID) == b"first"


def test_two_puts_at_the_same_time_leave_one_object_and_no_orphan(place: Place) -> None:
    with (
        place.vault.expect(place.one, ID, 5) as first,
        place.vault.expect(place.one, ID, 5) as second,
    ):
        first.write(b"first")
        second.write(b"other")
        place.vault.put(place.one, "r", ID, first, hashlib.sha256(b"first").hexdigest())
        with refused(Code.EXISTS):
            place.vault.put(place.one, "r", ID, second, hashlib.sha256(b"other").hexdigest())
    assert place.get(place.one, ID) == b"first"
    assert len(place.blobs.list("objects")) == 1


def test_clients_do_not_see_each_other(place: Place) -> None:
    place.put(place.one, ID, b"mine")
    with refused(Code.NOT_FOUND):
        place.get(place.other, ID)
    with refused(Code.NOT_FOUND):
        place.vault.delete(place.other, "r", ID)
    place.put(place.other, ID, b"theirs")
    assert (place.get(place.one, ID), place.get(place.other, ID)) == (b"mine", b"theirs")
    assert [entry["id"] for entry in place.vault.page(place.other, "", 10)["objects"]] == [ID]


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
        place.vault.find(place.one, object_id)


def test_sizes_are_bounded_as_announced_and_as_sent(place: Place) -> None:
    with refused(Code.TOO_LARGE):
        place.vault.expect(place.one, ID, 1001)
    with place.vault.expect(place.one, ID, 5) as incoming, refused(Code.TOO_LARGE):
        incoming.write(bytes(1001))


def test_the_quota_is_the_client_s(place: Place) -> None:
    for number in range(2):
        place.put(place.one, f"{number:032x}", bytes(1000))
    with refused(Code.QUOTA):
        place.put(place.one, ID, bytes(1000))
    place.put(place.other, ID, bytes(1000))


def test_deleted_is_gone_from_the_disk(place: Place) -> None:
    place.put(place.one, ID, b"data")
    place.vault.delete(place.one, "r", ID)
    assert place.blobs.list("objects") == []
    with refused(Code.NOT_FOUND):
        place.vault.delete(place.one, "r", ID)


def test_pages_end_with_none(place: Place) -> None:
    ids = [f"{number:032x}" for number in range(5)]
    for object_id in ids:
        place.put(place.one, object_id, b"x")
    seen, after = [], ""
    while True:
        page = place.vault.page(place.one, after, 2)
        seen += [entry["id"] for entry in page["objects"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == ids


def test_scrub_finds_what_changed_on_the_disk(place: Place) -> None:
    for number in range(4):
        place.put(place.one, f"{number:032x}", b"x" * 100)
    files = {
        object_id: place.folder / "blobs" / place.vault.find(place.one, object_id).blob
        for object_id in (f"{number:032x}" for number in range(4))
    }
    assert place.vault.scrub() == []
    files[f"{0:032x}"].unlink()
    files[f"{1:032x}"].write_bytes(b"x" * 99)
    files[f"{2:032x}"].write_bytes(b"x" * 99 + b"y")
    assert sorted(place.vault.scrub()) == [f"{number:032x}" for number in range(3)]
    with refused(Code.DAMAGED):
        place.get(place.one, f"{0:032x}")


def test_everything_is_in_the_audit_log(place: Place) -> None:
    place.put(place.one, ID, b"data")
    place.get(place.one, ID)
    place.vault.delete(place.one, "r", ID)
    text = (place.folder / "audit.jsonl").read_text()
    assert audit.verify(place.folder / "audit.jsonl").entries == 3
    assert all(action in text for action in ("object.put", "object.get", "object.delete"))


def test_files_are_private(place: Place) -> None:
    with place.vault.expect(place.one, ID, 4) as incoming:
        assert incoming.path.stat().st_mode & 0o077 == 0
    assert (place.folder / "blobs").stat().st_mode & 0o077 == 0


def test_blobs_are_created_once_and_listed_by_age(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "b")
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
