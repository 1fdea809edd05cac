"""Each wrapping alone opens the key file, and a removed wrapping no longer opens it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from shamir_mnemonic.wordlist import WORDLIST

from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.key_file import KeyFile, read_wrappings
from he_infer.client.keys.wrappings.custody import open_custody
from he_infer.client.keys.wrappings.passphrase import PassphraseUnlock, wrap_with_passphrase
from he_infer.client.keys.wrappings.shares import SharesUnlock, print_kit, read_share, wrap_with_shares
from he_infer.client.keys.wrappings.system_keyring import KeyringUnlock, forget, wrap_with_keyring
from he_infer.client.keys.wrappings.token import Token, TokenUnlock, choose_token, wrap_with_token
from he_infer.client.keys.wrappings.wrapping import Wrapping
from he_infer.errors import HeInferError, KeyProblem, MissingKey, NotThisFormat, UsageError, WrongPassphrase
from he_infer.head.layers import Head, Linear
from tests.e2e.kit import run

WORDS = "correct horse battery staple"
KEY = bytes(range(32))
_LIBRARIES = (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/local/lib/softhsm/libsofthsm2.so"))
SOFTHSM = next((path for path in _LIBRARIES if path.exists()), None)
needs_softhsm = pytest.mark.skipif(SOFTHSM is None, reason="Debian's package softhsm2 is not installed")


class MemoryKeyring(KeyringBackend):
    """A keyring in memory, for one process, with the interface of the package `keyring`."""

    priority = 1.0  # type: ignore[assignment] - the base class computes it

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


@pytest.fixture
def memory() -> Iterator[MemoryKeyring]:
    before, made = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def init_token(label: str) -> None:
    options = ["--init-token", "--free", "--label", label, "--pin", "123456", "--so-pin", "12345678"]
    subprocess.run(["softhsm2-util", *options], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A SoftHSM token of this process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    for label in ("clinic", "twin", "twin"):
        init_token(label)
    assert SOFTHSM is not None
    yield Token(SOFTHSM, "clinic", "123456")
    del os.environ["SOFTHSM2_CONF"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    head = Head((Linear(rng.normal(size=(3, 16)), rng.normal(size=3)),))
    path = tmp_path_factory.mktemp("keys") / "hospital.key"
    KeyFile.new([make_plan(head, input_bound=1.0)]).save(path, WORDS)
    return path


@pytest.fixture
def key_file(saved: Path, tmp_path: Path) -> Path:
    path = tmp_path / "hospital.key"
    path.write_bytes(saved.read_bytes())
    return path


def secret_of(keys: KeyFile) -> bytes:
    return keys.secret_key(keys.plans[0]).to_bytes()


def test_every_wrapping_opens_file_alone_and_removed_one_does_not(key_file: Path, memory: MemoryKeyring) -> None:
    keys = KeyFile.load(key_file, WORDS)
    shares, mnemonics = wrap_with_shares(keys.custody.key)
    custody = keys.custody.with_wrapping(wrap_with_keyring(keys.custody.key)).with_wrapping(shares)
    custody = custody.with_wrapping(wrap_with_passphrase(keys.custody.key, "a second one", "night shift"))
    keys.with_custody(custody).save(key_file, update=True)
    ways = ["a second one", KeyringUnlock(), SharesUnlock(mnemonics[1:]), WORDS]
    for way in ways:
        assert secret_of(KeyFile.load(key_file, way)) == secret_of(keys)
    for number, wrapping in enumerate(keys.custody.wrappings):
        assert number == 0
        present = KeyFile.load(key_file, "a second one")
        present.with_custody(present.custody.without_wrapping(wrapping.id)).save(key_file, update=True)
    with pytest.raises(WrongPassphrase):
        KeyFile.load(key_file, WORDS)
    for way in ways[:3]:
        assert secret_of(KeyFile.load(key_file, way)) == secret_of(keys)


def test_last_or_unknown_wrapping_cannot_be_removed(key_file: Path) -> None:
    custody = KeyFile.load(key_file, WORDS).custody
    with pytest.raises(UsageError, match="last"):
        custody.without_wrapping(custody.wrappings[0].id)
    with pytest.raises(MissingKey, match="00000000"):
        custody.without_wrapping("00000000")


def test_file_without_such_a_wrapping_names_those_it_has(key_file: Path, memory: MemoryKeyring) -> None:
    with pytest.raises(UsageError, match="passphrase"):
        KeyFile.load(key_file, KeyringUnlock())


def test_keyring_of_another_account_does_not_open(memory: MemoryKeyring) -> None:
    wrapping = wrap_with_keyring(KEY)
    assert KeyringUnlock().open(wrapping) == KEY
    (entry,) = memory.entries
    for wrong in ("00" * 32, "not hex"):
        memory.entries[entry] = wrong
        with pytest.raises(WrongPassphrase, match="another machine"):
            KeyringUnlock().open(wrapping)
    forget(wrapping)
    assert memory.entries == {}
    with pytest.raises(WrongPassphrase, match="no entry"):
        KeyringUnlock().open(wrapping)


def test_machine_without_keyring_gives_clear_error() -> None:
    from keyring.backends.fail import Keyring

    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    try:
        with pytest.raises(KeyProblem, match="passphrase"):
            wrap_with_keyring(KEY)
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2), (2, 0), (0, 1, 2)])
def test_any_two_of_three_shares_open(pair: tuple[int, ...]) -> None:
    wrapping, mnemonics = wrap_with_shares(KEY)
    assert SharesUnlock([mnemonics[number] for number in pair]).open(wrapping) == KEY


def test_share_with_one_wrong_word_is_named_by_its_checksum() -> None:
    _, mnemonics = wrap_with_shares(KEY)
    words = mnemonics[1].split()
    for place in range(0, len(words), 4):
        changed = list(words)
        changed[place] = WORDLIST[(WORDLIST.index(words[place]) + 1) % len(WORDLIST)]
        with pytest.raises(WrongPassphrase, match="Share 2 is wrong: its checksum"):
            SharesUnlock([mnemonics[0], " ".join(changed)])
    for broken in (words[:-1], [*words, words[0]], ["xyzzy", *words[1:]], [words[1], words[0], *words[2:]]):
        with pytest.raises(WrongPassphrase, match="Share 2"):
            SharesUnlock([mnemonics[0], " ".join(broken)])


def test_one_share_or_same_share_twice_or_of_another_set_is_refused() -> None:
    wrapping, mnemonics = wrap_with_shares(KEY)
    _, others = wrap_with_shares(KEY)
    for wrong, named in (
        ([], "No share"),
        (mnemonics[:1], "needs 2"),
        ([mnemonics[0], mnemonics[0]], "twice"),
        ([mnemonics[0], others[1]], "different sets"),
    ):
        with pytest.raises(UsageError, match=named):
            SharesUnlock(wrong)
    with pytest.raises(WrongPassphrase, match="another set"):
        SharesUnlock(others[:2]).open(wrapping)


@pytest.mark.parametrize(("threshold", "count"), [(1, 3), (3, 2), (0, 0), (2, 17)])
def test_impossible_number_of_shares_is_refused(threshold: int, count: int) -> None:
    with pytest.raises(UsageError, match="impossible"):
        wrap_with_shares(KEY, threshold, count)


def test_printed_sheets_are_read_back_unchanged() -> None:
    wrapping, mnemonics = wrap_with_shares(KEY)
    sheets = print_kit("hospital.key", mnemonics, 2)
    assert [read_share(sheet) for sheet in sheets] == mnemonics
    assert read_share("\n".join(mnemonics[0].upper().split())) == mnemonics[0]
    assert all(max(map(len, sheet.splitlines())) < 100 for sheet in sheets)
    assert SharesUnlock([read_share(sheet) for sheet in sheets[:2]]).open(wrapping) == KEY
    with pytest.raises(NotThisFormat):
        read_share("12 34")


@needs_softhsm
def test_token_opens_what_it_wrapped_and_keeps_its_private_key(token: Token) -> None:
    wrapping = wrap_with_token(KEY, token, "vault card", generate=True)
    assert TokenUnlock(token).open(wrapping) == KEY
    again = wrap_with_token(KEY, token, generate=True)  # the existing key is used
    assert again.data["key"] == wrapping.data["key"]
    other = wrap_with_token(KEY, Token(token.module, token.label, token.pin, "another"), generate=True)
    moved = Wrapping("token", {**other.data, "key": "he-infer"})
    with pytest.raises(WrongPassphrase, match="replaced"):
        TokenUnlock(token).open(moved)


@needs_softhsm
def test_wrong_pin_token_key_or_library_is_named(token: Token, tmp_path: Path) -> None:
    wrapping = wrap_with_token(KEY, token, generate=True)
    with pytest.raises(WrongPassphrase, match="PIN"):
        TokenUnlock(Token(token.module, token.label, "654321")).open(wrapping)
    with pytest.raises(WrongPassphrase, match="clinic"):
        TokenUnlock(Token(token.module, "other", token.pin)).open(wrapping)
    with pytest.raises(KeyProblem, match="absent"):
        wrap_with_token(KEY, Token(token.module, "absent", token.pin))
    with pytest.raises(KeyProblem, match="--generate"):
        wrap_with_token(KEY, Token(token.module, token.label, token.pin, "no such key"))
    with pytest.raises(KeyProblem, match="library"):
        TokenUnlock(Token(tmp_path / "none.so", token.label, token.pin)).open(wrapping)
    (tmp_path / "text.so").write_text("no library")
    for other in (tmp_path / "text.so", Path(sys.executable)):
        with pytest.raises(KeyProblem, match="is no PKCS#11 library"):
            wrap_with_token(KEY, Token(other, token.label, token.pin))


@needs_softhsm
def test_plugged_token_is_chosen_before_absent_ones_and_two_of_one_label_are_named(token: Token) -> None:
    absent, present = (Wrapping("token", {"token": label, "key": "he-infer"}) for label in ("lost card", token.label))
    assert choose_token(token.module, [absent, present]) is present
    assert choose_token(token.module, [present, absent]) is present
    assert choose_token(token.module, [absent]) is absent
    with pytest.raises(KeyProblem, match="Several tokens have the label 'twin'"):
        wrap_with_token(KEY, Token(token.module, "twin", token.pin))


@given(st.dictionaries(st.text(max_size=6), st.none() | st.text(max_size=6) | st.integers() | st.lists(st.integers())))
@settings(max_examples=60)
def test_wrapping_from_arbitrary_json_is_refused(entry: object) -> None:
    for candidate in (entry, {**entry, "kind": "shares", "id": "0" * 8} if isinstance(entry, dict) else entry):
        with pytest.raises(NotThisFormat):
            Wrapping.from_json(candidate)


@pytest.mark.parametrize("kind", ["passphrase", "keyring", "shares"])
def test_wrapping_whose_data_are_missing_or_damaged_is_refused(kind: str, memory: MemoryKeyring) -> None:
    unlocks = {"passphrase": PassphraseUnlock(WORDS), "keyring": KeyringUnlock()}
    _, mnemonics = wrap_with_shares(KEY)
    unlocks["shares"] = SharesUnlock(mnemonics)  # type: ignore[assignment] - another unlock
    for data in ({}, {"sealed": "zz", "entry": "x", "wrapped": "zz"}, {"sealed": "00", "entry": "x", "wrapped": ""}):
        with pytest.raises(HeInferError):
            open_custody([Wrapping(kind, data)], unlocks[kind])


def test_derived_keys_differ_by_purpose_and_are_equal_at_each_load(key_file: Path) -> None:
    one, two = KeyFile.load(key_file, WORDS), KeyFile.load(key_file, WORDS)
    assert one.derive("history") == two.derive("history") != one.derive("report UIDs")
    assert KeyFile.new(one.plans).derive("history") != one.derive("history")
    assert one.custody.key.hex() not in repr(one)
    assert one.seed.hex() not in repr(one)


def test_rotation_keeps_wrappings_and_notes_replaced_key_set(key_file: Path) -> None:
    keys = KeyFile.load(key_file, WORDS)
    keys.rotated(2_000_000_000).save(key_file, update=True)
    fresh = KeyFile.load(key_file, WORDS)
    assert fresh.key_set != keys.key_set
    assert secret_of(fresh) != secret_of(keys)
    assert fresh.plans == keys.plans
    assert [(each.key_set, each.expires) for each in fresh.retired] == [(keys.key_set, 2_000_000_000)]
    assert fresh.derive("history") == keys.derive("history")


def test_replaced_key_opens_in_new_way_alone_and_keeps_secret_keys_and_derived_keys(
    key_file: Path, memory: MemoryKeyring
) -> None:
    keys = KeyFile.load(key_file, WORDS)
    old = keys.custody.with_wrapping(wrap_with_keyring(keys.custody.key))
    both = keys.with_custody(old)
    both.save(key_file, update=True)
    before = key_file.read_bytes()
    both.with_new_key(lambda key: wrap_with_passphrase(key, "other words")).save(key_file, update=True)
    fresh = KeyFile.load(key_file, "other words")
    assert secret_of(fresh) == secret_of(keys)
    assert (fresh.key_set, fresh.seed) == (keys.key_set, keys.seed)
    assert fresh.custody.key != keys.custody.key
    assert [wrapping.kind for wrapping in read_wrappings(key_file)] == ["passphrase"]
    with pytest.raises(WrongPassphrase):
        KeyFile.load(key_file, WORDS)
    # Whoever opened an older copy holds the old key-encryption key: it must open nothing of the new file.
    after = key_file.read_bytes()
    length = int.from_bytes(after[6:10], "little")
    nonce = bytes.fromhex(json.loads(after[10 : 10 + length])["nonce"])
    with pytest.raises(InvalidTag):
        AESGCM(keys.custody.content_key).decrypt(nonce, after[10 + length :], after[: 10 + length])
    # An old header in front of the new content does not bring the old way back.
    start = 10 + int.from_bytes(before[6:10], "little")
    key_file.write_bytes(before[:start] + after[10 + length :])
    with pytest.raises(NotThisFormat, match="changed"):
        KeyFile.load(key_file, WORDS)


_KILLED = """
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path
from he_infer.client.keys.key_file import KeyFile, read_wrappings
from he_infer.client.keys.wrappings.passphrase import wrap_with_passphrase

@dataclass
class Held:  # the key that a passphrase unwrapped before, which spares the derivation
    key: bytes
    kind: str = "passphrase"
    def open(self, wrapping):
        return self.key

path, old, new = Path(sys.argv[1]), sys.argv[2], "other words"
keys, whole = KeyFile.load(path, old), path.read_bytes()
fresh = keys.with_new_key(lambda key: wrap_with_passphrase(key, new))
ways = {each.custody.wrappings[0].id: (name, each.custody.key) for name, each in (("old", keys), ("new", fresh))}
STEPS = {"open", "fdopen", "write", "flush", "fsync", "replace", "rename", "unlink", "close"}
for last in range(100):
    path.write_bytes(whole)
    if not (child := os.fork()):
        seen = -1
        def watch(frame, event, called):
            global seen
            if event == "c_call" and called.__name__ in STEPS:
                seen += 1
                if seen == last:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.setprofile(watch)
        fresh.save(path, update=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    (wrapping,) = read_wrappings(path)
    way, key = ways[wrapping.id]
    assert KeyFile.load(path, Held(key)).key_set == keys.key_set
    print(way)
    if status == 0:
        break
    assert os.WIFSIGNALED(status)
assert KeyFile.load(path, new).seed == keys.seed
"""


def test_kill_at_any_step_of_replacement_leaves_file_that_opens(key_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(key_file), WORDS], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    ways = done.stdout.split()
    assert len(ways) >= 6
    assert ways[0] == "old"
    assert ways[-1] == "new"
    assert ways == sorted(ways, reverse=True)  # "old" up to the rename, "new" from it on


def test_failed_replacement_leaves_file_and_keyring_as_they_were(
    key_file: Path, memory: MemoryKeyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from he_infer.commands.client.wrappings import Kind, replace

    monkeypatch.setenv("HE_INFER_PASSPHRASE", WORDS)
    before = key_file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        for kind, kit in ((Kind.KEYRING, None), (Kind.SHARES, tmp_path / "kit")):
            with pytest.raises(OSError, match="No space"):
                replace(key_file, kind, kit=kit)
    assert key_file.read_bytes() == before
    assert memory.entries == {}
    assert not (tmp_path / "kit").exists()
    with monkeypatch.context() as patched:
        # The file is in place, but its folder cannot be synced: the new way must stay.
        patched.setattr("he_infer.files.sync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            replace(key_file, Kind.KEYRING)
    assert KeyFile.load(key_file, KeyringUnlock()).key_set
    assert len(memory.entries) == 1


def test_lost_passphrase_is_replaced_with_two_printed_shares(key_file: Path, tmp_path: Path) -> None:
    kit, secret = tmp_path / "kit", secret_of(KeyFile.load(key_file, WORDS))
    said = run("keys", "wrappings", "add", key_file, "shares", "--kit", kit, HE_INFER_PASSPHRASE=WORDS)
    assert "Print the sheets" in said
    assert sorted(path.name for path in kit.iterdir()) == [f"share-{number}-of-3.txt" for number in (1, 2, 3)]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kit.iterdir())
    sheets = [kit / f"share-{number}-of-3.txt" for number in (3, 1)]
    options = [argument for sheet in sheets for argument in ("--from-shares", sheet)]
    broken = tmp_path / "broken.txt"
    broken.write_text(sheets[0].read_text().replace(" 9. ", " 9. academic ").replace("10.", "")[:-10])
    line = run(
        "keys", "recover", key_file, "--from-shares", broken, "--from-shares", sheets[1],
        HE_INFER_NEW_PASSPHRASE="new words entirely", status=1,
    )  # fmt: skip
    assert "Share 1 is wrong: its checksum" in line
    sheets[0].write_bytes(sheets[0].read_text().encode("utf-16"))  # as an editor on Windows may save it
    run("keys", "recover", key_file, *options, HE_INFER_NEW_PASSPHRASE="new words entirely")
    with pytest.raises(WrongPassphrase):
        KeyFile.load(key_file, WORDS)
    assert secret_of(KeyFile.load(key_file, "new words entirely")) == secret
    assert {wrapping.kind for wrapping in read_wrappings(key_file)} == {"passphrase", "shares"}


@needs_softhsm
def test_commands_add_list_use_and_remove_a_token(key_file: Path, token: Token) -> None:
    env = {"HE_INFER_PKCS11_PIN": token.pin, "HE_INFER_PKCS11_MODULE": str(token.module)}
    hsm = {"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]}
    run(
        "keys", "wrappings", "add", key_file, "token", "--token-label", token.label, "--generate",
        "--label", "vault card", HE_INFER_PASSPHRASE=WORDS, **env, **hsm,
    )  # fmt: skip
    listed = run("keys", "wrappings", "list", key_file)
    assert "vault card" in listed
    assert "token 'clinic', key 'he-infer'" in listed
    passphrase = read_wrappings(key_file)[0]
    assert "no longer opens" in run("keys", "wrappings", "remove", key_file, passphrase.id, **env, **hsm)
    assert "token" in run("keys", "show", key_file, **env, **hsm)
    line = run("keys", "show", key_file, HE_INFER_PASSPHRASE=WORDS, status=1)
    assert "not wrapped with a passphrase; it opens with: token" in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("shares",), "--kit"),
        (("token",), "--module"),
        (("passphrase", "--label", "x" * 65), "64"),
        (("shares", "--kit", "kit", "--threshold", "9"), "impossible"),
    ],
)
def test_incomplete_wrapping_command_is_refused_and_file_unchanged(
    key_file: Path, tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    before = key_file.read_bytes()
    line = run("keys", "wrappings", "add", key_file, *options, cwd=tmp_path, HE_INFER_PASSPHRASE=WORDS, status=1)
    assert named in line
    assert key_file.read_bytes() == before
    assert not (tmp_path / "kit").exists()


def test_real_secret_service_keeps_wrapping_where_there_is_one(key_file: Path) -> None:
    """GNOME's keyring under a bus of its own (Debian: gnome-keyring, dbus)."""
    import shutil

    if shutil.which("gnome-keyring-daemon") is None or shutil.which("dbus-run-session") is None:
        pytest.skip("Debian's packages gnome-keyring and dbus are not installed")
    program = (
        f"printf words | gnome-keyring-daemon --unlock --components=secrets >/dev/null && "
        f"HE_INFER_PASSPHRASE='{WORDS}' {sys.executable} -m he_infer keys wrappings add {key_file} keyring && "
        f"{sys.executable} -m he_infer keys show {key_file}"
    )
    home = {"HOME": str(key_file.parent), "XDG_DATA_HOME": str(key_file.parent / "data")}
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", program],
        capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL, env={**os.environ, **home},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "keyring" in done.stdout
