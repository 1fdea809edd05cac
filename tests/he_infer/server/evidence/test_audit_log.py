"""The audit log: its chain holds, and every kind of tampering with a line breaks it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from he_infer.errors import NotAuthentic, NotThisFormat
from he_infer.server.evidence.audit_log import GENESIS, AuditLog, verify
from he_infer.wire.refusals import Code, Refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    for number in range(5):
        log.append("classify", client=f"c{number}", request_id=f"{number:016x}", outcome="ok", bytes=number)
    return path


def test_an_untouched_log_verifies(path: Path) -> None:
    chain = verify(path)
    assert chain.entries == 5
    assert chain.head == AuditLog(path).head() != GENESIS
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_process_continues_the_chain(path: Path) -> None:
    AuditLog(path).append("keys.delete", client="c", request_id="r", outcome="missing_keys")
    assert verify(path).entries == 6


def test_the_chain_holds_while_several_processes_append(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from he_infer.server.evidence.audit_log import AuditLog
log = AuditLog(Path(sys.argv[1]))
for number in range(60):
    log.append("classify", client=sys.argv[2], request_id=f"{number:016x}", outcome="ok")
"""
    path = tmp_path / "audit.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), f"c{number}"]) for number in range(4)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    assert verify(path).entries == 240
    who = [json.loads(line)["client"] for line in path.read_bytes().splitlines()]
    assert {name: who.count(name) for name in set(who)} == {f"c{number}": 60 for number in range(4)}


def test_key_read_while_others_append_continues_the_lines_read(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    script = """
import sys
from pathlib import Path
from he_infer.server.evidence.audit_log import AuditLog
log = AuditLog(Path(sys.argv[1]))
for _ in range(500):
    log.append("test", client="c", request_id="r", outcome="ok")
"""
    copy = tmp_path / "copy" / "audit.jsonl"
    copy.parent.mkdir()
    with subprocess.Popen([sys.executable, "-c", script, path]) as writer:
        try:
            while not path.exists() or path.read_bytes().count(b"\n") < 3:
                assert writer.poll() is None
            for _ in range(20):
                lines, key = AuditLog(path).read_whole()
                assert lines is not None
                assert key is not None
                copy.write_bytes(lines)
                copy.with_name("audit.key").write_bytes(key)
                AuditLog(copy).append("test", client="c", request_id="r", outcome="ok")
                assert verify(copy).entries == lines.count(b"\n") + 1
        finally:
            writer.kill()


@pytest.mark.parametrize("change", ["edit", "drop", "insert", "swap", "torn"])
def test_tampering_is_found(path: Path, change: str) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    match change:
        case "edit":
            entry = json.loads(lines[2])
            entry["client"] = "someone else"
            lines[2] = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        case "drop":
            del lines[1]
        case "insert":
            lines.insert(3, lines[3])
        case "swap":
            lines[1], lines[2] = lines[2], lines[1]
        case "torn":
            lines[4] = lines[4][:-5]
    path.write_bytes(b"".join(lines))
    with pytest.raises(NotAuthentic, match="breaks at line"):
        verify(path)


def test_lines_cut_off_the_end_change_the_head(path: Path) -> None:
    head = verify(path).head
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert verify(path).head != head


def test_nothing_is_appended_after_a_broken_line(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"{half a li")
    with pytest.raises(NotThisFormat):
        AuditLog(path).append("classify", client="c", request_id="r", outcome="ok")


def test_cut_audit_line_is_set_aside_and_logged(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"action":"classify","cli')
    assert AuditLog(path).repair() == 25
    assert path.read_bytes().startswith(whole)
    assert json.loads(path.read_bytes().splitlines()[-1])["action"] == "audit.repair"
    assert verify(path).entries == 6
    assert path.with_name("audit.jsonl.torn").read_bytes() == b'{"action":"classify","cli'
    assert AuditLog(path).repair() == 0


def test_refused_request_is_logged_with_its_code(path: Path) -> None:
    log = AuditLog(path)
    with pytest.raises(Refused), log.watching("classify", "client", "request", model="m"):
        raise Refused(Code.BUSY, "full")
    last = json.loads(path.read_bytes().splitlines()[-1])
    assert (last["outcome"], last["details"]) == ("busy", {"model": "m"})


def test_unloggable_request_is_not_acknowledged(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "missing" / "audit.jsonl")
    with pytest.raises(Refused) as caught, log.watching("classify", "client", "request"):
        pass
    assert caught.value.code is Code.STORAGE
