"""An attacker who controls the server, with all files of its data folder, rewrites the audit log."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from he_infer.errors import NotAuthentic
from he_infer.server.evidence.audit_key import read_first_key
from he_infer.server.evidence.audit_log import AuditLog, _hash, verify
from he_infer.wire.envelope import canonical_json


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, bytes]:
    """A log of six lines, and the first key as the operator moved it away."""
    path = tmp_path / "server" / "audit.jsonl"
    path.parent.mkdir()
    for number in range(6):
        AuditLog(path).append("classify", client=f"c{number}", request_id="r", outcome="ok")
    (first,) = path.parent.glob("audit-*.first-key")
    key = read_first_key(first)
    first.unlink()
    return path, key


def rewrite(path: Path, changed: int) -> None:
    """Write a whole new chain with one changed line; MACs that the attacker knows are kept."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines[changed]["client"] = "nobody"
    previous = lines[0]["prev"]
    out = b""
    for line in lines:
        mac = line.pop("mac")
        line.pop("hash")
        line["prev"] = previous
        previous = _hash(line)
        out += canonical_json({**line, "hash": previous, "mac": mac}) + b"\n"
    path.write_bytes(out)


def test_an_untouched_log_verifies_with_its_first_key(log: tuple[Path, bytes]) -> None:
    path, key = log
    assert verify(path, key).entries == 6


@pytest.mark.parametrize("changed", [0, 3, 5])
def test_a_rebuilt_chain_is_detected_with_the_first_key(log: tuple[Path, bytes], changed: int) -> None:
    path, key = log
    rewrite(path, changed)
    assert verify(path).entries == 6  # without the key, the chain alone verifies
    with pytest.raises(NotAuthentic, match=f"Line {changed + 1}"):
        verify(path, key)


def test_the_key_on_the_server_authenticates_no_older_line(log: tuple[Path, bytes], tmp_path: Path) -> None:
    path, key = log
    held = path.with_name("audit.key").read_bytes()[8:]
    for number in range(6):
        assert held != key, number
        key = hashlib.sha256(b"he-infer/audit/next\n" + key).digest()
    assert held == key


def test_a_log_without_its_key_is_not_accepted_as_authentic(log: tuple[Path, bytes]) -> None:
    path, key = log
    path.with_name("audit.key").unlink()
    AuditLog(path).append("classify", client="c", request_id="r", outcome="ok")
    with pytest.raises(NotAuthentic, match="Line 7"):
        verify(path, key)


def test_a_crash_between_line_and_key_lets_the_log_continue(log: tuple[Path, bytes], tmp_path: Path) -> None:
    path, key = log
    shutil.copy(path.with_name("audit.key"), tmp_path / "older")
    AuditLog(path).append("classify", client="c", request_id="r", outcome="ok")
    shutil.copy(tmp_path / "older", path.with_name("audit.key"))
    AuditLog(path).append("classify", client="c", request_id="r", outcome="ok")
    assert verify(path, key).entries == 8
