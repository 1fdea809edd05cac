"""`he-infer keys`, `tokens` and `audit` as a user runs them: results, and one line for each mistake."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from he_infer.client.connection.session import Session
from he_infer.errors import Unauthorised
from he_infer.local_server import LocalServer

WORDS = "correct horse battery staple"


def he_infer(*arguments: object, status: int | None = 0, **environment: str) -> str:
    """Run the command; returns its standard output, or its one line of error where a status other than 0 is expected.

    With `status` None it must exit 1, after a report on its standard output.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HE_INFER_")}
    done = subprocess.run(
        [sys.executable, "-m", "he_infer", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**clean, **environment},
    )
    assert done.returncode == (1 if status is None else status), done.stderr
    if status is None:
        assert done.stderr == ""
    if not status or status == 3:  # 3: some images were not classified, as the table says
        return done.stdout
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.fixture
def token_file(server: LocalServer, tmp_path: Path) -> Path:
    path = tmp_path / "cloud.token"
    path.touch(mode=0o600)
    path.write_text(server.token + "\n")
    return path


def test_keys_are_made_registered_shown_and_listed(
    server: LocalServer, token_file: Path, tmp_path: Path, bundle: Path
) -> None:
    key, figures = tmp_path / "hospital.key", tmp_path / "figures.json"
    there = ("--url", server.url, "--token-file", token_file)
    mine = ("--bundle", bundle, *there)
    out = he_infer("keys", "new", key, *mine, "--json", figures, HE_INFER_PASSPHRASE=WORDS)
    assert "registered" in out
    assert "answered correctly" in out
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    stated = json.loads(figures.read_text())
    assert stated["evaluation_key_bytes"] > 0
    assert stated["test_questions"] == 1
    with Session(server.url, server.token) as session:
        assert [keys.plan for keys in session.key_sets()] == stated["plans"]
    assert stated["key_set"] in he_infer("keys", "list", *there)
    he_infer("keys", "forget", stated["key_set"], *there)
    assert stated["key_set"] not in he_infer("keys", "list", *there)
    assert "has no key set" in he_infer("keys", "forget", stated["key_set"], *there, status=1)
    he_infer("keys", "register", key, *mine, HE_INFER_PASSPHRASE=WORDS)
    assert "the server had it already" in he_infer("keys", "register", key, *mine, HE_INFER_PASSPHRASE=WORDS)
    assert stated["key_set"] in he_infer("keys", "list", *there)
    shown = he_infer("keys", "show", key, HE_INFER_PASSPHRASE=WORDS)
    assert stated["plans"][0] in shown
    assert "overwritten" in he_infer("keys", "new", key, *mine, status=1, HE_INFER_PASSPHRASE=WORDS)
    assert "passphrase" in he_infer("keys", "show", key, status=1, HE_INFER_PASSPHRASE="wrong").lower()
    assert "no plan for 7" in he_infer("keys", "new", tmp_path / "k", *mine, "--batch", 7, status=1)
    assert not (tmp_path / "k").exists()
    said = " ".join(he_infer("keys", "new", tmp_path / "k", *there, HE_INFER_PASSPHRASE=WORDS).split())
    assert "No test question was asked" in said


def test_missing_open_or_wrong_token_gives_one_line(server: LocalServer, token_file: Path, tmp_path: Path) -> None:
    assert "HE_INFER_TOKEN" in he_infer("keys", "list", "--url", server.url, status=1)
    token_file.chmod(0o644)
    assert "chmod 600" in he_infer("keys", "list", "--url", server.url, "--token-file", token_file, status=1)
    wrong = "hei_0123456789abcdef_" + "A" * 43
    line = he_infer("keys", "list", "--url", server.url, status=1, HE_INFER_TOKEN=wrong)
    assert "does not accept the token" in line
    assert wrong not in line
    assert "does not hold a token" in he_infer("keys", "list", "--url", server.url, status=1, HE_INFER_TOKEN="password")


def test_unreachable_server_gives_one_line(token_file: Path) -> None:
    line = he_infer("keys", "list", "--url", "http://127.0.0.1:9", "--token-file", token_file, status=1)
    assert "No server answers at http://127.0.0.1:9" in line


def test_tokens_are_added_listed_and_revoked_while_the_server_runs(server: LocalServer, tmp_path: Path) -> None:
    path = tmp_path / "st-mary.token"
    here = ("--data-dir", server.data_dir)
    he_infer("tokens", "add", "St. Mary", "--scope", "classify", "--days", 90, "--token-file", path, *here)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text().strip()
    listed = he_infer("tokens", "list", *here)
    assert "St. Mary" in listed
    assert text not in listed
    with Session(server.url, text) as session:
        assert session.models()
        he_infer("tokens", "revoke", text.split("_")[1], *here)
        with pytest.raises(Unauthorised):
            session.models()
    assert "revoked" in he_infer("tokens", "list", *here)
    assert "no token of id" in he_infer("tokens", "revoke", "0" * 16, *here, status=1)
    assert "Unknown scope" in he_infer("tokens", "add", "x", "--scope", "all", *here, status=1)
    shown = he_infer("tokens", "add", "On Screen", *here).strip()
    assert shown.startswith("hei_")


def test_the_audit_log_is_verified(server: LocalServer) -> None:
    here = ("--data-dir", server.data_dir)
    out = he_infer("audit", "verify", *here)
    assert "unbroken" in out
    head = out.split()[-1]
    he_infer("audit", "verify", *here, "--expect", head)
    assert "cut off" in he_infer("audit", "verify", *here, "--expect", "0" * 64, status=1)
