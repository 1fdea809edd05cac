"""Scrub, backup and restore on every kind of store: what is damaged is found, and what was acknowledged comes back."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import obstore
import pytest

from he_infer.errors import NotThisFormat, UnsupportedVersion, UsageError
from he_infer.server.authentication import authenticate
from he_infer.server.evidence.audit_log import AuditLog, verify
from he_infer.server.evidence.signing import Signer
from he_infer.server.metadata import KeyPart, KeyRecord, Metadata, ObjectRecord
from he_infer.server.metadata.copying import Rows
from he_infer.server.storage.backup import MANIFEST, State, backup, restore
from he_infer.server.storage.blobs import Blobs
from he_infer.server.storage.scrub import remove_orphans, repair, scrub
from he_infer.server.tokens import Scope, new_token
from he_infer.wire.refusals import Code, Refused

KEY = bytes(range(32))
NOW = timedelta(0)


class Site:
    """A server's stores with a client in them."""

    def __init__(self, folder: Path, database: str, blobs: Path | str) -> None:
        folder.mkdir(mode=0o700)
        self.metadata = Metadata(database)
        self.blobs = Blobs(blobs)
        self.state = State(self.metadata, self.blobs, folder / "audit.jsonl", folder / "signing.key")

    def fill(self) -> None:
        """Store a client, keys and two objects, one of them in two versions: five blobs."""
        self.token = new_token()
        self.metadata.tokens.add("St. Mary", self.token, frozenset({Scope.STORE}))
        self.caller = authenticate(self.metadata, self.token.text, Scope.STORE)
        Signer.load_or_create(self.state.signing_key)
        AuditLog(self.state.audit).append("token.add", client="operator", request_id="-", outcome="ok")
        parts = []
        for name in ("galois", "relin"):
            data = os.urandom(700)
            self.blobs.put_new(f"keys/{self.caller.client_id}/k1/{name}", data)
            parts.append(KeyPart(name, len(data), hashlib.sha256(data).hexdigest()))
        self.metadata.keys.add(self.caller.client_id, KeyRecord("k1", "p" * 64, "s", 1.0, tuple(parts), "5" * 32))
        self.data = {
            (object_id, version): self.add(object_id, version) for object_id, version in (("a", 1), ("a", 2), ("b", 1))
        }

    def add(self, letter: str, version: int) -> bytes:
        data = os.urandom(3000)
        blob = f"objects/{self.caller.client_id}/{letter}{version}"
        self.blobs.put_new(blob, data)
        digest = hashlib.sha256(data).hexdigest()
        self.metadata.objects.add(self.caller, ObjectRecord(letter * 32, blob, len(data), digest, 1.0, version))
        return data

    def path(self, letter: str, version: int) -> str:
        record = self.metadata.objects.find(self.caller.client_id, letter * 32, version)
        assert record is not None
        return record.blob

    def overwrite(self, path: str, data: bytes) -> None:
        """Overwrite a stored blob, as a failing disk would."""
        obstore.put(self.blobs._store, path, data, use_multipart=False)


@pytest.fixture
def site(tmp_path: Path, database_url: str, blob_place: Path | str) -> Iterator[Site]:
    site = Site(tmp_path / "site", database_url, blob_place)
    site.fill()
    yield site
    site.metadata.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "empty", f"sqlite:///{tmp_path / 'empty.sqlite3'}", tmp_path / "empty-blobs")
    yield site
    site.metadata.close()


def test_a_scrub_of_what_is_whole_finds_nothing(site: Site) -> None:
    findings = scrub(site.metadata, site.blobs, orphan_age=NOW)
    assert (findings.blobs, findings.bytes) == (5, 2 * 700 + 3 * 3000)
    assert findings.whole
    assert findings.orphans == []


def test_scrub_names_missing_damaged_and_orphaned_blobs(site: Site) -> None:
    site.blobs.delete(site.path("a", 1))
    site.overwrite(site.path("b", 1), b"shorter")
    site.overwrite(f"keys/{site.caller.client_id}/k1/relin", os.urandom(700))
    site.blobs.put_new("objects/nobody/1", b"left behind")
    site.blobs.put_new("keys/nobody/k9/galois", b"left behind")
    findings = scrub(site.metadata, site.blobs, orphan_age=NOW)
    assert [record.what for record in findings.missing] == [f"object {'a' * 32} version 1"]
    assert {record.what for record in findings.damaged} == {f"object {'b' * 32} version 1", "keys k1 part relin"}
    assert sorted(findings.orphans) == ["keys/nobody/k9/galois", "objects/nobody/1"]
    assert not findings.whole
    assert scrub(site.metadata, site.blobs).orphans == []  # too young to be one


def test_missing_or_damaged_blobs_are_repaired_from_a_backup(site: Site, tmp_path: Path) -> None:
    backup(site.state, tmp_path / "backup", KEY)
    later = site.add("c", 1)
    for letter, version in (("a", 1), ("c", 1)):
        site.blobs.delete(site.path(letter, version))
    site.overwrite(site.path("b", 1), b"damaged")
    findings = scrub(site.metadata, site.blobs)
    mended = repair(findings, site.blobs, Blobs(tmp_path / "backup" / "blobs"))
    assert {record.what for record in mended} == {f"object {'a' * 32} version 1", f"object {'b' * 32} version 1"}
    assert [record.what for record in findings.missing] == [f"object {'c' * 32} version 1"]
    assert findings.damaged == []
    assert site.blobs.get(site.path("b", 1)) == site.data["b", 1]
    assert later
    assert len(scrub(site.metadata, site.blobs).missing) == 1


def test_orphans_are_removed_and_nothing_else(site: Site) -> None:
    site.blobs.put_new("objects/nobody/1", b"left behind")
    assert remove_orphans(site.metadata, site.blobs) == 0
    assert remove_orphans(site.metadata, site.blobs, orphan_age=NOW) == 1
    findings = scrub(site.metadata, site.blobs, orphan_age=NOW)
    assert findings.whole
    assert findings.blobs == 5


def test_backup_is_restored_elsewhere(site: Site, empty: Site, tmp_path: Path) -> None:
    made = backup(site.state, tmp_path / "backup", KEY)
    assert (made.blobs, made.bytes, made.lost) == (5, 2 * 700 + 3 * 3000, [])
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    restored = restore(tmp_path / "backup", empty.state, KEY)
    assert (restored.blobs, restored.rows) == (5, made.rows)
    caller = authenticate(empty.metadata, site.token.text, Scope.STORE)
    assert caller == site.caller
    for (letter, version), data in site.data.items():
        record = empty.metadata.objects.find(caller.client_id, letter * 32, version)
        assert record is not None
        assert empty.blobs.get(record.blob) == data
    assert scrub(empty.metadata, empty.blobs, orphan_age=NOW).whole
    assert empty.metadata.keys.list_all(caller.client_id) == site.metadata.keys.list_all(caller.client_id)
    assert (
        Signer.load_or_create(empty.state.signing_key).public_key
        == Signer.load_or_create(site.state.signing_key).public_key
    )
    assert verify(empty.state.audit).entries == 1
    with pytest.raises(UsageError, match="empty"):
        restore(tmp_path / "backup", empty.state, KEY)
    with pytest.raises(UsageError, match="not empty"):
        backup(site.state, tmp_path / "backup", KEY)


def test_backup_is_restored_into_stores_of_any_kind(
    site: Site, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    backup(site.state, tmp_path / "backup", KEY)
    place = request.getfixturevalue("s3").bucket()
    other = Site(tmp_path / "other", request.getfixturevalue("postgres").database(), place)
    restore(tmp_path / "backup", other.state, KEY)
    assert scrub(other.metadata, other.blobs, orphan_age=NOW).blobs == 5
    assert scrub(other.metadata, other.blobs, orphan_age=NOW).whole
    other.metadata.close()


def test_deletions_and_additions_during_backup_leave_it_whole(
    site: Site, empty: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = site.path("b", 1)
    copy_rows = Rows.copy_to

    def meanwhile(self: Rows, target: Rows) -> dict[str, int]:
        counts = copy_rows(self, target)
        if self is site.metadata.rows:
            site.metadata.objects.delete(site.caller.client_id, "b" * 32)
            site.blobs.delete(deleted)
            site.add("c", 1)
        return counts

    monkeypatch.setattr(Rows, "copy_to", meanwhile)
    made = backup(site.state, tmp_path / "backup", KEY)
    assert (made.blobs, made.lost) == (4, [])
    restore(tmp_path / "backup", empty.state, KEY)
    listed = [record.object_id for record in empty.metadata.objects.list_page(site.caller.client_id, "", 10)]
    assert listed == ["a" * 32]
    assert scrub(empty.metadata, empty.blobs, orphan_age=NOW).whole


def test_backup_of_damaged_store_lists_the_lost_blobs(site: Site, tmp_path: Path) -> None:
    site.overwrite(site.path("b", 1), b"damaged")
    made = backup(site.state, tmp_path / "backup", KEY)
    assert [record.what for record in made.lost] == [f"object {'b' * 32} version 1"]
    assert made.blobs == 4
    assert json.loads((tmp_path / "backup" / MANIFEST).read_text())["lost"] == [site.path("b", 1)]


def test_interrupted_restore_serves_nothing_and_can_be_repeated(
    site: Site, empty: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup(site.state, tmp_path / "backup", KEY)
    put, puts = Blobs.put_new, 0

    def breaks(self: Blobs, path: str, data: bytes | Path) -> None:
        nonlocal puts
        puts += 1
        if puts == 3:
            raise Refused(Code.STORAGE, "The disk is full.")
        put(self, path, data)

    monkeypatch.setattr(Blobs, "put_new", breaks)
    with pytest.raises(Refused):
        restore(tmp_path / "backup", empty.state, KEY)
    assert empty.metadata.rows.is_empty()
    assert restore(tmp_path / "backup", empty.state, KEY).blobs == 5
    assert scrub(empty.metadata, empty.blobs, orphan_age=NOW).whole
    assert [path.name for path in empty.state.audit.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), NotThisFormat),
        (lambda folder: (folder / MANIFEST).write_text("{"), NotThisFormat),
        (lambda folder: (folder / MANIFEST).write_text("[]"), NotThisFormat),
        (lambda folder: _set(folder, "version", 9), UnsupportedVersion),
        (lambda folder: _set(folder, "format", "zip"), NotThisFormat),
        (lambda folder: (folder / "signing.key").write_bytes(bytes(32)), NotThisFormat),
        (lambda folder: (folder / "audit.jsonl").unlink(), NotThisFormat),
    ],
)
def test_folder_that_is_not_a_backup_restores_nothing(tmp_path: Path, empty: Site, spoil: object, error: type) -> None:
    site = Site(tmp_path / "site", f"sqlite:///{tmp_path / 'm.sqlite3'}", tmp_path / "blobs")
    site.fill()
    folder = tmp_path / "backup"
    backup(site.state, folder, KEY)
    site.metadata.close()
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(error):
        restore(folder, empty.state, KEY)
    assert empty.metadata.rows.is_empty()
    assert empty.blobs.list("") == []


def test_moved_backup_is_restored_without_the_original_store(tmp_path: Path, empty: Site) -> None:
    site = Site(tmp_path / "site", f"sqlite:///{tmp_path / 'm.sqlite3'}", tmp_path / "blobs")
    site.fill()
    backup(site.state, tmp_path / "backup", KEY)
    site.metadata.close()
    shutil.rmtree(tmp_path / "blobs")
    shutil.copytree(tmp_path / "backup", tmp_path / "moved")
    shutil.rmtree(tmp_path / "backup")
    assert restore(tmp_path / "moved", empty.state, KEY).blobs == 5


def _set(folder: Path, name: str, value: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, name: value}))
