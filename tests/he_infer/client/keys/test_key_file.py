"""The secret key's file: private, opened by its passphrase alone, and never overwritten."""

import stat
from pathlib import Path

import numpy as np
import pytest

from cipher.keys import passphrase as sealing
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys import key_file as custody
from he_infer.client.keys.key_file import KeyFile
from he_infer.errors import HeInferError, NotThisFormat, Truncated, UnsupportedVersion, UsageError, WrongPassphrase
from he_infer.head.layers import Head, Linear
from he_infer.wire import envelope as wire

WORDS = "correct horse battery staple"


@pytest.fixture(scope="module")
def keys() -> KeyFile:
    rng = np.random.default_rng(1)
    return KeyFile.new(make_plan(Head((Linear(rng.normal(size=(3, 16)), rng.normal(size=3)),)), input_bound=1.0))


@pytest.fixture(scope="module")
def saved(keys: KeyFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "hospital.key"
    keys.save(path, WORDS)
    return path


def test_what_is_saved_is_loaded(saved: Path, keys: KeyFile) -> None:
    loaded = KeyFile.load(saved, WORDS)
    assert loaded.secret_key.to_bytes() == keys.secret_key.to_bytes()
    assert loaded.plan.digest == keys.plan.digest


def test_the_file_is_private_and_shows_nothing(saved: Path, keys: KeyFile) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert keys.secret_key.to_bytes()[40:56] not in saved.read_bytes()
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert "secret" not in repr(keys).lower()


def test_a_wrong_passphrase_is_told_from_damage(saved: Path, tmp_path: Path) -> None:
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
def test_a_file_that_is_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.key"
    path.write_bytes(content)
    with pytest.raises(NotThisFormat, match=r"other\.key"):
        KeyFile.load(path, WORDS)


def test_a_missing_file_is_the_system_s_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KeyFile.load(tmp_path / "none.key", WORDS)


@pytest.mark.parametrize(
    ("plain", "kind"),
    [
        (b"", NotThisFormat),
        (b"HEI", NotThisFormat),
        (b"XXXX" + bytes(20), NotThisFormat),
        (b"HEIK\x02\x00" + bytes(20), UnsupportedVersion),
        (b"HEIK\x01\x00\xff\xff\x00\x00" + bytes(20), Truncated),
        (b"HEIK\x01\x00\x02\x00\x00\x00[]" + bytes(20), NotThisFormat),
        (b"HEIK\x01\x00\x02\x00\x00\x00{}" + bytes(20), NotThisFormat),
    ],
)
def test_what_is_sealed_must_be_a_key_of_this_version(tmp_path: Path, plain: bytes, kind: type[HeInferError]) -> None:
    path = tmp_path / "odd.key"
    path.write_bytes(sealing.seal(plain, WORDS, custody.PURPOSE))
    with pytest.raises(kind):
        KeyFile.load(path, WORDS)


def test_a_key_for_another_purpose_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    path.write_bytes(sealing.seal(b"HEIK", WORDS, "another purpose"))
    with pytest.raises(NotThisFormat):
        KeyFile.load(path, WORDS)


def test_a_key_of_another_seal_version_is_named(keys: KeyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "seal_format", lambda: "tenseal-0.0.1")
    keys.save(tmp_path / "old.key", WORDS)
    monkeypatch.setattr(custody, "seal_format", wire.seal_format)
    with pytest.raises(NotThisFormat, match=r"tenseal-0\.0\.1"):
        KeyFile.load(tmp_path / "old.key", WORDS)
