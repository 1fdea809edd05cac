"""An attacker who can change a backup adds a token to it; a server restored from it must not accept the token."""

import json
import sqlite3
import time
from pathlib import Path

import pytest

from he_infer.errors import NotAuthentic
from he_infer.server import tokens
from he_infer.server.authentication import authenticate
from he_infer.server.evidence.audit_log import AuditLog
from he_infer.server.evidence.signing import Signer
from he_infer.server.metadata import Metadata
from he_infer.server.storage.backup import DATABASE, MANIFEST, State, _sha256, backup, restore
from he_infer.server.storage.blobs import Blobs
from he_infer.server.tokens import Scope
from he_infer.wire.refusals import Refused

KEY = bytes(range(32))


def site(folder: Path) -> State:
    folder.mkdir()
    AuditLog(folder / "audit.jsonl").by_operator("begun")
    Signer.load_or_create(folder / "signing.key")
    return State(
        Metadata.sqlite(folder / "m.sqlite3"), Blobs(folder / "blobs"), folder / "audit.jsonl", folder / "signing.key"
    )


@pytest.fixture
def tampered(tmp_path: Path) -> tuple[Path, tokens.NewToken, tokens.NewToken]:
    """A backup with a token that an attacker added, with all digests adapted and a MAC under the attacker's key."""
    state = site(tmp_path / "site")
    honest, planted = tokens.new_token(), tokens.new_token()
    state.metadata.tokens.add("hospital", honest, frozenset({Scope.CLASSIFY}))
    folder = tmp_path / "backup"
    backup(state, folder, KEY)
    with sqlite3.connect(folder / DATABASE) as sql:
        (client,) = sql.execute("SELECT client_id FROM clients").fetchone()
        row = (planted.token_id, client, planted.digest, "classify store admin", time.time())
        sql.execute("INSERT INTO tokens (token_id, client_id, digest, scopes, created) VALUES (?, ?, ?, ?, ?)", row)
    sql.close()
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][DATABASE] = _sha256(folder / DATABASE)
    manifest["rows"]["tokens"] += 1
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder, honest, planted


def test_a_tampered_backup_is_refused(tampered: tuple[Path, tokens.NewToken, tokens.NewToken], tmp_path: Path) -> None:
    state = site(tmp_path / "new")
    (tmp_path / "new" / "audit.jsonl").unlink()
    (tmp_path / "new" / "signing.key").unlink()
    with pytest.raises(NotAuthentic, match="changed after it was made"):
        restore(tampered[0], state, KEY)
    assert state.metadata.rows.is_empty()


def test_a_tampered_backup_that_is_restored_without_a_key_admits_nobody(
    tampered: tuple[Path, tokens.NewToken, tokens.NewToken], tmp_path: Path
) -> None:
    folder, honest, planted = tampered
    state = site(tmp_path / "new")
    (tmp_path / "new" / "audit.jsonl").unlink()
    before = (tmp_path / "new" / "signing.key").read_bytes()
    restore(folder, state, None)
    for token in (honest, planted):
        with pytest.raises(Refused, match="not accepted"):
            authenticate(state.metadata, token.text, Scope.CLASSIFY)
    assert (tmp_path / "new" / "signing.key").read_bytes() == before
