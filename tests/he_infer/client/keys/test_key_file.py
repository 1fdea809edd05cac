"""The key file: private, opened only by its passphrase, and never overwritten."""

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys import key_file as custody
from he_infer.client.keys.key_file import KeyFile
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import (
    HeInferError,
    KeyProblem,
    MissingKey,
    NotAuthentic,
    NotThisFormat,
    Truncated,
    UnsupportedVersion,
    UsageError,
    WrongPassphrase,
)
from he_infer.head.layers import Head, Linear
from he_infer.wire import envelope as wire
from he_infer.wire.key_set import is_key_set

WORDS = "correct horse battery staple"


@pytest.fixture(scope="module")
def keys() -> KeyFile:
    rng = np.random.default_rng(1)
    head = Head((Linear(rng.normal(size=(3, 16)), rng.normal(size=3)),))
    plans = [make_plan(head, input_bound=1.0, batch=batch) for batch in (64, 1)]
    return KeyFile.new(plans, server_key="ab" * 32)


@pytest.fixture(scope="module")
def saved(keys: KeyFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "hospital.key"
    keys.save(path, WORDS)
    return path


def test_saved_key_file_is_loaded_equal(saved: Path, keys: KeyFile) -> None:
    loaded = KeyFile.load(saved, WORDS)
    assert [plan.batch for plan in loaded.plans] == [1, 64]
    for plan in loaded.plans:
        assert loaded.secret_key(plan).to_bytes() == keys.secret_key(plan).to_bytes()
    assert (loaded.key_set, loaded.server_key, loaded.publisher) == (keys.key_set, "ab" * 32, None)


def test_saved_file_is_private_and_holds_no_plaintext(saved: Path, keys: KeyFile) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert keys.secret_key(keys.plans[0]).to_bytes()[40:56] not in saved.read_bytes()
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert "secret" not in repr(keys).lower()


def test_wrong_passphrase_and_damage_give_different_errors(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongPassphrase, match=r"hospital\.key"):
        KeyFile.load(saved, "wrong")
    damaged = tmp_path / "damaged.key"
    data = bytearray(saved.read_bytes())
    data[-100] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(NotThisFormat, match=r"damaged\.key"):
        KeyFile.load(damaged, WORDS)


def test_a_key_is_never_overwritten(saved: Path, keys: KeyFile) -> None:
    before = saved.read_bytes()
    with pytest.raises(UsageError, match="never overwritten"):
        keys.save(saved, WORDS)
    assert saved.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"text", bytes(1000)])
def test_file_that_is_no_key_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.key"
    path.write_bytes(content)
    with pytest.raises(NotThisFormat, match=r"other\.key"):
        KeyFile.load(path, WORDS)


def test_missing_file_raises_the_system_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KeyFile.load(tmp_path / "none.key", WORDS)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"HEI", NotThisFormat),
        (b"XXXX" + bytes(20), NotThisFormat),
        (b"HEIP\x01\x00" + bytes(200), UnsupportedVersion),
        (b"HEIK\x01\x00" + bytes(20), UnsupportedVersion),
        (b"HEIK\x02\x00\xff\xff\x00\x00" + bytes(20), Truncated),
        (b"HEIK\x02\x00\x02\x00\x00\x00[]" + bytes(20), NotThisFormat),
        (b"HEIK\x02\x00\x02\x00\x00\x00{}" + bytes(20), NotThisFormat),
    ],
)
def test_file_of_another_kind_or_version_is_refused_by_name(
    tmp_path: Path, data: bytes, kind: type[HeInferError]
) -> None:
    path = tmp_path / "odd.key"
    path.write_bytes(data)
    with pytest.raises(kind, match=r"odd\.key"):
        KeyFile.load(path, WORDS)


def test_any_changed_byte_of_file_is_refused(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    path = tmp_path / "changed.key"
    header = 10 + int.from_bytes(data[6:10], "little")
    label = data.index(b'"label":""')
    inside = (0, 4, 6, 12, label + 9, header - 1, header, header + 100, len(data) - 1)
    for place in inside:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(HeInferError, match=r"changed\.key"):
            KeyFile.load(path, WORDS)


def test_key_of_another_seal_version_is_refused_by_name(
    keys: KeyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "seal_format", lambda: "tenseal-0.0.1")
    keys.save(tmp_path / "old.key", WORDS)
    monkeypatch.setattr(custody, "seal_format", wire.seal_format)
    with pytest.raises(NotThisFormat, match=r"tenseal-0\.0\.1"):
        KeyFile.load(tmp_path / "old.key", WORDS)


def test_each_key_file_has_a_key_set_of_its_own(keys: KeyFile) -> None:
    assert is_key_set(keys.key_set)
    assert KeyFile.new(keys.plans).key_set != keys.key_set


def test_plan_of_another_model_has_no_key_in_file(keys: KeyFile) -> None:
    other = make_plan(Head((Linear(np.ones((2, 16)), np.zeros(2)),)), input_bound=1.0)
    with pytest.raises(MissingKey, match="other plans"):
        keys.secret_key(other)


def test_a_changed_signing_key_is_refused_with_both_named(keys: KeyFile) -> None:
    assert keys.pinned("ab" * 32) == keys
    with pytest.raises(NotAuthentic, match=f"(?s){'ab' * 32}.*{'cd' * 32}.*--accept-new-server-key"):
        keys.pinned("cd" * 32)
    assert keys.pinned("cd" * 32, accept_new=True).server_key == "cd" * 32


def test_an_updated_file_keeps_its_keys_and_its_mode(saved: Path, keys: KeyFile, tmp_path: Path) -> None:
    path = tmp_path / "updated.key"
    keys.save(path, WORDS)
    keys.pinned("cd" * 32, accept_new=True).save(path, WORDS, update=True)
    loaded = KeyFile.load(path, WORDS)
    assert (loaded.key_set, loaded.server_key) == (keys.key_set, "cd" * 32)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_with_cut_off_keys_is_refused_by_name(keys: KeyFile, tmp_path: Path) -> None:
    path = tmp_path / "whole.key"
    keys.save(path, WORDS)
    data = path.read_bytes()
    loaded = KeyFile.load(path, WORDS)
    start = 10 + int.from_bytes(data[6:10], "little")
    nonce = bytes.fromhex(json.loads(data[10:start])["nonce"])
    content = AESGCM(loaded.custody.content_key).decrypt(nonce, data[start:], data[:start])
    for cut in (content[:-1], content[:2], b"\xff\xff\xff\x7f" + content[4:], b""):
        path.write_bytes(custody.seal_content(cut, loaded.custody))
        with pytest.raises(Truncated, match=r"does not hold the keys|ends before its key"):
            KeyFile.load(path, WORDS)


def test_without_files_in_memory_the_secret_key_touches_no_disk(
    keys: KeyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    ram, disk = tmp_path / "ram", tmp_path / "disk"
    ram.mkdir()
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    used: list[str | None] = []
    real = tempfile.TemporaryDirectory

    def watched(*arguments: Any, **named: Any) -> Any:
        used.append(named.get("dir"))
        return real(*arguments, **named)

    monkeypatch.setattr(tempfile, "TemporaryDirectory", watched)
    monkeypatch.setenv("HE_INFER_MEMORY_FOLDER", str(ram))
    secret = keys.secret_key(keys.plans[0])
    assert SecretKey.from_bytes(secret.to_bytes()).to_bytes() == secret.to_bytes()
    assert set(used) == {str(ram)}
    monkeypatch.setenv("HE_INFER_MEMORY_FOLDER", str(tmp_path / "none"))
    with pytest.raises(KeyProblem, match="RAM disk"):
        secret.to_bytes()
