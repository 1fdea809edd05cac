"""Receipts on the client's side: kept with the report, verified later, and refused when anything in them is changed."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from he_infer.cli import app
from he_infer.client.verify import receipts as receipt
from he_infer.errors import HeInferError, NotAuthentic, NotThisFormat
from he_infer.local_server import LocalServer
from he_infer.server.evidence.signing import Signer
from tests.he_infer.client.imaging import small_bundle, small_images

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def signed(**changes: object) -> dict[str, object]:
    fields = {
        "version": 2,
        "model": "m",
        "head_digest": "h",
        "plan": "p",
        "key_set": "k",
        "request": "r",
        "answer": "a",
        "time": 5,
    }
    stated = {**fields, **changes}
    signer = Signer(PRIVATE)
    return {"receipt": stated, "signature": signer.sign(stated), "server_key": signer.public_key}


def test_receipts_are_appended_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "kept.receipts"
    receipt.append(path, [signed()])
    receipt.append(path, [signed(time=6), signed(time=7)])
    assert [entry.time for entry in receipt.read(path)] == [5, 6, 7]
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["model", "head_digest", "plan", "key_set", "request", "answer", "time"])
def test_a_changed_receipt_does_not_verify(tmp_path: Path, name: str) -> None:
    path = tmp_path / "kept.receipts"
    entry = signed()
    entry["receipt"] = {**entry["receipt"], name: 6 if name == "time" else "another"}
    receipt.append(path, [signed(), entry])
    with pytest.raises(NotAuthentic, match="receipt 2 does not verify"):
        receipt.read(path)


@pytest.mark.parametrize(
    "text", ["", "\n", "{}", "[]", "no json", "[" * 100_000, '{"receipts": []}', '{"receipts": 3}', "\x00\xff"]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other"
    path.write_text(text)
    with pytest.raises(NotThisFormat):
        receipt.read(path)


def test_receipt_of_unexpected_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.receipts"
    receipt.append(path, [signed()])
    ran = CliRunner().invoke(app, ["receipts", "verify", str(path), "--server-key", "ab" * 32])
    assert isinstance(ran.exception, HeInferError)
    assert "other keys" in str(ran.exception)
    key = Signer(PRIVATE).public_key
    assert CliRunner().invoke(app, ["receipts", "verify", str(path), "--server-key", key]).exit_code == 0
    assert CliRunner().invoke(app, ["receipts", "list", str(path)]).exit_code == 0


def test_classify_keeps_receipts_and_canaries_with_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle_file = tmp_path / "small.hebundle"
    small_bundle(bundle_file)
    small_images(tmp_path / "scans", 3)
    report, kept = tmp_path / "report.json", tmp_path / "kept.receipts"
    monkeypatch.setenv("HE_INFER_PASSPHRASE", "correct horse battery staple")
    with LocalServer([bundle_file], tmp_path / "data", options=["--workers", "1"]) as server:
        monkeypatch.setenv("HE_INFER_URL", server.url)
        monkeypatch.setenv("HE_INFER_TOKEN", server.token)
        run = CliRunner().invoke
        made = run(app, ["keys", "new", str(tmp_path / "my.key"), "--bundle", str(bundle_file)])
        assert made.exit_code == 0, made.exception
        asked = ["classify", str(tmp_path / "scans"), "--bundle", str(bundle_file), "--key", str(tmp_path / "my.key")]
        asked += ["--canaries", "1", "--receipts", str(kept), "--json", str(report)]
        done = run(app, asked)
        assert done.exit_code == 0, done.exception
        assert "4 test questions, all answered correctly" in done.output
    figures = json.loads(report.read_text())
    assert figures["canaries"] == {"sent": 4, "requests": 4, "wrong": 0}
    assert len(figures["receipts"]) == 7
    assert {row["receipt"] for row in figures["images"]} < set(range(7))
    for file in (report, kept):
        verified = run(app, ["receipts", "verify", str(file), "--bundle", str(bundle_file)])
        assert verified.exit_code == 0, verified.exception
        assert "7, all signatures valid" in verified.output
    other = tmp_path / "other.hebundle"
    small_bundle(other, seed=9)
    refused = run(app, ["receipts", "verify", str(kept), "--bundle", str(other)])
    assert isinstance(refused.exception, NotAuthentic)
