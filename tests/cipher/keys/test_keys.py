"""Passphrases, the vault key's file, the ledger, and atomic writes."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cipher.container.api import ObjectVersion, seal_bytes
from cipher.errors import (
    AlreadyExists,
    BadKey,
    CipherError,
    Damaged,
    Replayed,
    StorageProblem,
    UnsupportedFormat,
    UnsupportedVersion,
    WrongKey,
    WrongPassphrase,
)
from cipher.files.atomic import atomic_write, write_bytes
from cipher.keys import passphrase
from cipher.keys.recipient_key import RecipientKey, load_public_key
from cipher.keys.vault_key import VaultKey
from cipher.vault.ledger import Entry, Ledger

CHEAP = passphrase.Cost(passphrase.ARGON2ID, 64, 1, 1)
CHEAP_SCRYPT = passphrase.Cost(passphrase.SCRYPT, 10, 1, 1)
KEY = VaultKey(bytes(range(32)))


class TestPassphrase:
    @settings(deadline=None, max_examples=25)
    @given(st.binary(max_size=200), st.text(min_size=1), st.text(min_size=1, max_size=40), st.booleans())
    def test_sealed_data_opens_under_its_passphrase(self, data: bytes, phrase: str, purpose: str, argon: bool) -> None:
        try:
            phrase.encode()
            purpose.encode()
        except UnicodeEncodeError:  # a lone surrogate is no text
            return
        sealed = passphrase.seal(data, phrase, purpose, cost=CHEAP if argon else CHEAP_SCRYPT)
        assert passphrase.open_(sealed, phrase, purpose) == data
        assert len(sealed) == len(data) + len(purpose.encode()) + 88

    def test_passphrase_opens_in_either_unicode_form(self) -> None:
        sealed = passphrase.seal(b"x", "caf\u00e9", "p", cost=CHEAP)
        assert passphrase.open_(sealed, "cafe\u0301", "p") == b"x"

    def test_wrong_passphrase_wrong_purpose_and_damage_give_different_errors(self) -> None:
        sealed = passphrase.seal(b"data", "right", "vault key", cost=CHEAP)
        with pytest.raises(WrongPassphrase):
            passphrase.open_(sealed, "wrong", "vault key")
        with pytest.raises(UnsupportedFormat, match="protects a 'vault key', not a 'CKKS key'"):
            passphrase.open_(sealed, "right", "CKKS key")
        with pytest.raises(UnsupportedFormat):
            passphrase.open_(b"nothing of the kind", "right", "vault key")
        with pytest.raises(UnsupportedVersion, match="version 2"):
            passphrase.open_(sealed[:4] + b"\2\0" + sealed[6:], "right", "vault key")

    def test_every_flipped_bit_and_every_truncation_is_refused_as_damage(self) -> None:
        sealed = passphrase.seal(b"data", "right", "p", cost=CHEAP)
        for bit in range(8 * len(sealed)):
            changed = bytearray(sealed)
            changed[bit // 8] ^= 1 << bit % 8
            expected = UnsupportedFormat if bit < 32 else UnsupportedVersion if bit < 48 else Damaged
            with pytest.raises(expected):
                passphrase.open_(bytes(changed), "right", "p")
        for length in range(4, len(sealed)):
            with pytest.raises(Damaged):
                passphrase.open_(sealed[:length], "right", "p")

    @pytest.mark.parametrize(
        "cost", [(2, 2**31, 1, 1), (2, 64, 10**6, 1), (1, 40, 8, 1), (1, 22, 32, 16), (9, 1, 1, 1), (2, 8, 1, 4)]
    )
    def test_a_cost_that_would_take_the_machine_is_refused(self, cost: tuple[int, int, int, int]) -> None:
        with pytest.raises(Damaged, match="impossible"):
            passphrase.seal(b"", "p", "p", cost=passphrase.Cost(*cost))

    def test_the_default_is_memory_hard(self) -> None:
        cost = passphrase.default_cost()
        memory = cost.first if cost.algorithm == passphrase.ARGON2ID else (128 * cost.second << cost.first) // 1024
        assert memory >= 64 * 1024

    def test_an_empty_passphrase_is_refused(self) -> None:
        with pytest.raises(BadKey, match="empty"):
            passphrase.seal(b"", "", "p")


class TestVaultKey:
    def test_vault_key_is_saved_and_loaded(self, tmp_path: Path) -> None:
        key = VaultKey.generate()
        path = tmp_path / "vault.key"
        key.save(path, "pass", cost=CHEAP)
        assert VaultKey.load(path, "pass") == key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert key.secret not in path.read_bytes()
        with pytest.raises(WrongPassphrase):
            VaultKey.load(path, "Pass")

    def test_vault_key_is_never_overwritten_by_accident(self, tmp_path: Path) -> None:
        path = tmp_path / "vault.key"
        KEY.save(path, "pass", cost=CHEAP)
        with pytest.raises(AlreadyExists, match="exists already"):
            VaultKey.generate().save(path, "pass", cost=CHEAP)
        assert VaultKey.load(path, "pass") == KEY

    def test_key_made_by_another_process_meanwhile_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, seal = tmp_path / "vault.key", passphrase.seal

        def slow(*arguments: Any, **options: Any) -> bytes:
            monkeypatch.setattr(passphrase, "seal", seal)
            KEY.save(path, "pass", cost=CHEAP)
            return seal(*arguments, **options)

        monkeypatch.setattr(passphrase, "seal", slow)
        with pytest.raises(AlreadyExists):
            VaultKey.generate().save(path, "pass", cost=CHEAP)
        assert VaultKey.load(path, "pass") == KEY

    def test_missing_file_and_wrong_length_are_reported(self, tmp_path: Path) -> None:
        with pytest.raises(StorageProblem, match="Cannot read"):
            VaultKey.load(tmp_path / "none", "pass")
        with pytest.raises(BadKey, match="32 bytes"):
            VaultKey(b"short")
        (tmp_path / "short").write_bytes(passphrase.seal(b"short", "pass", "vault key", cost=CHEAP))
        with pytest.raises(Damaged):
            VaultKey.load(tmp_path / "short", "pass")

    def test_printed_vault_key_shows_no_secret(self) -> None:
        assert KEY.secret.hex() not in repr(KEY)
        assert repr(KEY.secret) not in repr(KEY)

    def test_subkeys_of_a_vault_key_differ(self) -> None:
        derived = {KEY.wrapping_key(), KEY.hedging_key(), KEY.secret, bytes.fromhex(KEY.key_id) * 2}
        assert len(derived) == 4
        assert KEY.key_id != VaultKey.generate().key_id


class TestLedger:
    def test_ledger_remembers_and_counts_its_own_versions(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        scan = "ab" * 16
        with Ledger.update(path, KEY, make=True) as ledger:
            assert ledger.expected(scan) is None
            ledger.record(scan, Entry(1))
        with Ledger.update(path, KEY) as ledger:
            assert ledger.expected(scan) == ObjectVersion(scan, 1)
            ledger.record(scan, Entry(2, "vault", "a.sealed", "a", "/a"))
            ledger.record("other", Entry(1))
            ledger.forget("other")
        ledger = Ledger.load(path, KEY)
        assert ledger.entries == {scan: Entry(2, "vault", "a.sealed", "a", "/a")}
        ledger.record(scan, Entry(1, "vault", "b.sealed", "a", "/a"))
        assert ledger.expected(scan) == ObjectVersion(scan, 2), "an older version does not take the later one's place"
        ledger.record("new", Entry(1, "vault", "b.sealed", "a", "/a"))
        assert set(ledger.entries) == {"new"}, "one object in one place"
        ledger = Ledger.load(path, KEY)
        assert ledger.version is not None
        assert ledger.version.number == 2
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_older_ledger_than_expected_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        with Ledger.update(path, KEY, make=True):
            pass
        old = path.read_bytes()
        with Ledger.update(path, KEY) as ledger:
            pass
        path.write_bytes(old)
        with pytest.raises(Replayed):
            Ledger.load(path, KEY, expect=ledger.version)
        path.unlink()
        with pytest.raises(StorageProblem, match="gone"):
            Ledger.load(path, KEY, expect=ledger.version)

    def test_other_objects_are_no_ledgers(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        path.write_bytes(seal_bytes(b"{}", KEY))
        with pytest.raises(Damaged, match="not a ledger"):
            Ledger.load(path, KEY)
        with pytest.raises(WrongKey):
            Ledger.load(path, VaultKey.generate())

    def test_many_writers_lose_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"

        def write(number: int) -> None:
            with Ledger.update(path, KEY, make=True) as ledger:
                ledger.record(f"object {number}", Entry(number))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(40)))
        assert len(Ledger.load(path, KEY).entries) == 40

    def test_a_block_that_fails_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"

        def fail() -> None:
            with Ledger.update(path, KEY, make=True) as ledger:
                ledger.record("x", Entry(1))
                raise CipherError("stop")

        with pytest.raises(CipherError, match="stop"):
            fail()
        assert not path.exists()


class TestAtomicWrites:
    def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"old")

        def fail() -> None:
            with atomic_write(path) as handle:
                handle.write(b"new")
                raise CipherError("stop")

        with pytest.raises(CipherError, match="stop"):
            fail()
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_readers_see_the_old_file_until_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"old")
        with atomic_write(path) as handle:
            handle.write(b"new")
            handle.flush()
            assert path.read_bytes() == b"old"
        assert path.read_bytes() == b"new"

    def test_bytes_and_folder_reach_the_disk_before_it_returns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[str] = []
        fsync, replace = os.fsync, os.replace

        def watched_fsync(descriptor: int) -> None:
            calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            fsync(descriptor)

        def watched_replace(*names: Any, **folders: Any) -> None:
            calls.append("rename")
            replace(*names, **folders)

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "fdatasync", watched_fsync, raising=False)
        monkeypatch.setattr(os, "replace", watched_replace)
        write_bytes(tmp_path / "file", b"data")
        assert calls == ["file", "rename", "folder"]

    @pytest.mark.parametrize("links", [True, False])
    def test_new_file_never_replaces_another(
        self, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        if not links:
            monkeypatch.setattr(os, "link", refuse)
        write_bytes(tmp_path / "file", b"first", replace=False)
        with pytest.raises(AlreadyExists):
            write_bytes(tmp_path / "file", b"second", replace=False)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"first")]

    def test_a_long_name_still_fits(self, tmp_path: Path) -> None:
        path = tmp_path / ("\N{HIRAGANA LETTER A}" * 80)
        write_bytes(path, b"x")
        assert path.read_bytes() == b"x"

    def test_folder_in_the_way_gives_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(StorageProblem, match="Cannot write"):
            write_bytes(tmp_path / "folder", b"x")
        assert len(list(tmp_path.iterdir())) == 1


def test_recipient_key_is_made_with_its_public_key_or_not_at_all(tmp_path: Path) -> None:
    key = RecipientKey.generate()
    (tmp_path / "doctor.pub").write_text("another's")
    with pytest.raises(AlreadyExists, match="doctor"):
        key.save(tmp_path / "doctor", "words", cost=CHEAP)
    assert [path.name for path in tmp_path.iterdir()] == ["doctor.pub"]
    public = key.save(tmp_path / "nurse", "words", cost=CHEAP)
    assert load_public_key(public) == key.public
    with pytest.raises(AlreadyExists, match="nurse"):
        RecipientKey.generate().save(tmp_path / "nurse", "words", cost=CHEAP)
    assert RecipientKey.load(tmp_path / "nurse", "words").key_id == key.key_id
    assert load_public_key(public) == key.public
