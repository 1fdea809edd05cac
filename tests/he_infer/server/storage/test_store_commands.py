"""`he-infer store`, `clients` and `tokens rotate` as an operator runs them on a server that works meanwhile."""

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import NotAuthentic, RequestRefused, ServerBusy, Unauthorised
from he_infer.local_server import LocalServer
from he_infer.server.evidence import audit_log as audit
from he_infer.server.metadata import schema
from tests.he_infer.server.support.kit import Client
from tests.he_infer.server.test_commands import he_infer


def test_a_backup_taken_while_writing_has_all_that_was_acknowledged(bundle: Path, tmp_path: Path) -> None:
    options = ["--workers", "1"]
    acknowledged: dict[str, bytes] = {}
    stop = threading.Event()

    with LocalServer([bundle], tmp_path / "data", options=options) as server:

        def write() -> None:
            with Session(server.url, server.token) as session:
                while not stop.is_set():
                    data = os.urandom(20_000)
                    acknowledged[session.put_object(data).id] = data

        with Session(server.url, server.token) as session:
            client = Client(server, session, server.token)
            first = session.put_object(b"first").id
            session.put_object(b"second", first, version=2)
            writers = [threading.Thread(target=write) for _ in range(2)]
            for writer in writers:
                writer.start()
            while len(acknowledged) < 5:
                pass
            before = dict(acknowledged)
            figures = tmp_path / "backup.json"
            said = he_infer("store", "backup", tmp_path / "backup", "--data-dir", server.data_dir, "--json", figures)
            stop.set()
            for writer in writers:
                writer.join()
        token, plan = server.token, client.plan.digest
    made = json.loads(figures.read_text())
    assert made["blobs"] >= len(before)
    assert made["lost"] == []
    assert f"{made['blobs']} blobs" in said
    elsewhere = ("--data-dir", tmp_path / "elsewhere")
    assert "--backup-key" in he_infer("store", "restore", tmp_path / "backup", *elsewhere, status=1)
    elsewhere = (*elsewhere, "--backup-key", tmp_path / "data" / "backup.key")
    he_infer("store", "restore", tmp_path / "backup", *elsewhere)
    elsewhere = elsewhere[:2]
    assert "0 missing, 0 damaged" in he_infer("store", "scrub", *elsewhere)
    assert "holds clients already" in he_infer(
        "store", "restore", tmp_path / "backup", *elsewhere, "--without-key", status=1
    )
    with (
        LocalServer([bundle], tmp_path / "elsewhere", token=token, options=options) as server,
        Session(server.url, token) as session,
    ):
        for object_id, data in before.items():
            assert session.get_object(object_id) == data
        for entry in session.objects():
            assert hashlib.sha256(session.get_object(entry.id)).hexdigest() == entry.sha256
        assert session.get_object(first, 1) == b"first"
        assert session.get_object(first) == b"second"
        assert {keys.plan for keys in session.key_sets()} == {plan}
    actions = [json.loads(line)["action"] for line in (tmp_path / "elsewhere" / "audit.jsonl").read_text().splitlines()]
    assert "store.restore" in actions
    audit.verify(tmp_path / "elsewhere" / "audit.jsonl")


def test_a_scrub_names_the_damage_and_exits_1(bundle: Path, tmp_path: Path) -> None:
    here = ("--data-dir", tmp_path / "data")
    with (
        LocalServer([bundle], tmp_path / "data", options=["--workers", "1"]) as server,
        Session(server.url, server.token, patience=0) as session,
    ):
        kept, spoilt, gone = (session.put_object(os.urandom(1000)).id for _ in range(3))
        he_infer("store", "backup", tmp_path / "backup", *here)
        assert "3 blobs" in he_infer("store", "scrub", *here)
        (client,) = (tmp_path / "data" / "blobs" / "objects").iterdir()
        blobs = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in client.iterdir()}
        stored = {entry.id: blobs[entry.sha256] for entry in session.objects()}
        stored[spoilt].write_bytes(os.urandom(1000))
        stored[gone].unlink()
        figures = tmp_path / "scrub.json"
        done = he_infer("store", "scrub", *here, "--json", figures, status=None)
        assert f"missing: object {gone} version 1" in done
        assert f"damaged: object {spoilt} version 1" in done
        assert kept not in done
        found = json.loads(figures.read_text())
        assert [len(found[kind]) for kind in ("missing", "damaged", "orphans")] == [1, 1, 0]
        with pytest.raises(RequestRefused, match="missing"):
            session.get_object(gone)
        assert "no backup" in he_infer("store", "scrub", *here, "--repair-from", tmp_path, status=1)
        mended = he_infer("store", "scrub", *here, "--repair-from", tmp_path / "backup")
        assert f"repaired: object {gone} version 1" in mended
        assert "0 missing, 0 damaged" in mended
        for object_id in (kept, spoilt, gone):
            session.get_object(object_id)


def test_clients_are_listed_bounded_and_forgotten_while_the_server_runs(server: LocalServer, tmp_path: Path) -> None:
    here = ("--data-dir", server.data_dir)
    token = he_infer("tokens", "add", "St. Mary", "--storage-quota", 100, *here).strip()
    with Session(server.url, token, patience=0) as session:
        session.put_object(b"x" * 80)
        with pytest.raises(RequestRefused, match="may store 100 bytes"):
            session.put_object(b"x" * 80)
        he_infer("clients", "limit", "St. Mary", "--lift", "storage-quota", *here)
        object_id = session.put_object(b"x" * 80).id
        figures = tmp_path / "clients.json"
        assert "St. Mary" in he_infer("clients", "list", *here, "--json", figures)
        (mary,) = [entry for entry in json.loads(figures.read_text())["clients"] if entry["name"] == "St. Mary"]
        assert (mary["objects"], mary["object_bytes"]) == (2, 160)
        he_infer("clients", "limit", "St. Mary", "--requests-per-minute", 2, *here)
        session.get_object(object_id)
        session.get_object(object_id)
        with pytest.raises(ServerBusy, match="2 requests a minute"):
            session.get_object(object_id)
        assert "no bound named" in he_infer("clients", "limit", "St. Mary", "--lift", "sky", *here, status=1)
        assert "Nothing to change" in he_infer("clients", "limit", "St. Mary", *here, status=1)
        assert "no client named" in he_infer("clients", "remove", "St. Joan", "--yes", *here, status=1)
        he_infer("clients", "remove", "St. Mary", "--yes", *here)
        with pytest.raises(Unauthorised):
            session.get_object(object_id)
    with Session(server.url, server.token) as session:
        assert list(session.objects()) == []
    assert not list((server.data_dir / "blobs" / "objects").rglob(mary["client_id"] + "/*"))


def test_a_token_is_rotated_while_the_server_runs(server: LocalServer, tmp_path: Path) -> None:
    here = ("--data-dir", server.data_dir)
    old = he_infer("tokens", "add", "Rotunda", "--days", 90, *here).strip()
    new = tmp_path / "new.token"
    said = he_infer("tokens", "rotate", old.split("_")[1], "--hours", 48, "--token-file", new, *here)
    assert "48 h" in said
    assert new.stat().st_mode & 0o077 == 0
    with Session(server.url, old) as before, Session(server.url, new.read_text().strip()) as after:
        object_id = before.put_object(b"one tenant").id
        assert after.get_object(object_id) == b"one tenant"
        third = he_infer("tokens", "rotate", old.split("_")[1], "--hours", 0, *here).strip()
        with pytest.raises(Unauthorised):
            before.get_object(object_id)
    with Session(server.url, third) as session:
        assert session.get_object(object_id) == b"one tenant"
    file = tmp_path / "none.token"
    assert "no token of id" in he_infer("tokens", "rotate", "0" * 16, "--token-file", file, *here, status=1)
    assert not file.exists()


def test_the_database_is_migrated_by_command(tmp_path: Path) -> None:
    assert f"schema {schema.HEAD}" in he_infer("store", "migrate", "--data-dir", tmp_path / "data")


def test_new_signing_key_is_refused_by_client_that_pinned_the_old_one(bundle: Path, tmp_path: Path) -> None:
    options = ["--workers", "1"]
    with (
        LocalServer([bundle], tmp_path / "data", options=options) as server,
        Session(server.url, server.token) as session,
    ):
        token, pinned = server.token, session.server_key
    (tmp_path / "data" / "signing.key").rename(tmp_path / "stolen.key")
    (tmp_path / "data" / "audit.jsonl").rename(tmp_path / "evidence.jsonl")
    with LocalServer([bundle], tmp_path / "data", token=token, options=options) as server:
        with Session(server.url, token, server_key=pinned) as session, pytest.raises(NotAuthentic):
            session.models()
        with Session(server.url, token) as session:
            assert session.models()
            assert session.server_key != pinned
            session.put_object(b"x")
    assert audit.verify(tmp_path / "data" / "audit.jsonl").entries >= 1  # a chain of its own
    assert audit.verify(tmp_path / "evidence.jsonl").entries >= 1
