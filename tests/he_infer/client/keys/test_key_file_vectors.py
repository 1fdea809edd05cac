"""Frozen bytes of the key file, version 2: its header with a wrapping of each kind, its content, its derived keys."""

import json
from pathlib import Path
from typing import Any

import keyring
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from he_infer.client.keys.key_file import KeyFile, read_wrappings
from he_infer.client.keys.wrappings.custody import Custody, open_custody
from he_infer.client.keys.wrappings.passphrase import PassphraseUnlock
from he_infer.client.keys.wrappings.shares import SharesUnlock
from he_infer.client.keys.wrappings.system_keyring import KeyringUnlock
from he_infer.client.keys.wrappings.wrapping import Wrapping
from he_infer.client.pacs.reports.uids import ReportUids

VECTOR: dict[str, Any] = json.loads((Path(__file__).parents[3] / "vectors" / "key-file-v2.json").read_text())
KEY, FILE = bytes.fromhex(VECTOR["key"]), bytes.fromhex(VECTOR["file"])


@pytest.fixture
def wrappings(tmp_path: Path) -> tuple[Wrapping, ...]:
    path = tmp_path / "frozen.key"
    path.write_bytes(FILE)
    return read_wrappings(path)


def test_frozen_header_is_read_member_by_member(wrappings: tuple[Wrapping, ...]) -> None:
    assert [wrapping.kind for wrapping in wrappings] == ["passphrase", "keyring", "token", "shares"]
    assert wrappings[0].label == "front desk"
    header = json.loads(FILE[10 : 10 + int.from_bytes(FILE[6:10], "little")])
    assert [wrapping.to_json() for wrapping in wrappings] == header["wrappings"]


def test_frozen_wrappings_open_by_passphrase_keyring_and_shares(
    wrappings: tuple[Wrapping, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ("he-infer", wrappings[1].text("entry"))
    monkeypatch.setattr(keyring, "get_password", lambda *asked: VECTOR["keyring_secret"] if asked == entry else None)
    unlocks = (PassphraseUnlock(VECTOR["passphrase"]), KeyringUnlock(), SharesUnlock(VECTOR["shares"][1:]))
    for unlock in unlocks:
        assert open_custody(wrappings, unlock).key == KEY


def test_frozen_token_wrapping_is_plain_rsa_oaep(wrappings: tuple[Wrapping, ...]) -> None:
    private = load_pem_private_key(VECTOR["token_private_key"].encode(), None)
    assert isinstance(private, RSAPrivateKey)
    scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    assert private.decrypt(wrappings[2].blob("wrapped"), scheme) == KEY


def test_frozen_content_opens_under_key_derived_from_key_encryption_key() -> None:
    custody = Custody(KEY)
    assert custody.content_key.hex() == VECTOR["content_key"]
    start = 10 + int.from_bytes(FILE[6:10], "little")
    nonce = bytes.fromhex(json.loads(FILE[10:start])["nonce"])
    content = AESGCM(custody.content_key).decrypt(nonce, FILE[start:], FILE[:start])
    assert content.hex() == VECTOR["content"]


def test_frozen_keys_of_history_and_reports_follow_from_seed() -> None:
    keys = KeyFile("0" * 32, (), {}, 0.0, seed=bytes.fromhex(VECTOR["seed"]))
    assert {purpose: keys.derive(purpose).hex() for purpose in VECTOR["derived"]} == VECTOR["derived"]


def test_frozen_report_uid_follows_from_its_parts() -> None:
    frozen = VECTOR["report_uids"]
    uids = ReportUids(bytes.fromhex(frozen["secret"]))
    assert uids.derive(frozen["purpose"], *frozen["parts"]) == frozen["uid"]
