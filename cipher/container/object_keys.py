"""Keys of one sealed object: the hedged data key, its wrapping, and the keys derived from it.

Hedged: the data key and the salt come from the operating system's randomness *and*, under a key that only the vault
has, from the header and the content. A broken random generator therefore repeats neither a key nor a nonce for
different images, and a working one leaves nothing to guess (compare RFC 8937).
"""

import hashlib
import hmac
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from cipher.container.header import Slot
from cipher.errors import Damaged, WrongKey
from cipher.keys.vault_key import VaultKey


@dataclass(frozen=True, slots=True)
class Fresh:
    """The secrets of an object about to be sealed."""

    data_key: bytes
    salt: bytes
    object_id: bytes


def hedged(vault_key: VaultKey, context: bytes, content_digest: bytes) -> Fresh:
    """Draw an object's data key, salt and (should it be a new object) identifier.

    Args:
        vault_key: keys the mixing, so that the salt, which is public, tells nothing of the content.
        context: the header without the values that are drawn here.
        content_digest: GMAC of the payload under the vault's content key; it is not shown to anybody.
    """
    random = os.urandom(32)
    mixed = hmac.new(vault_key.hedging_key(), random + hashlib.sha256(context).digest() + content_digest, "sha256")
    drawn = HKDFExpand(algorithm=SHA256(), length=64, info=b"he-infer object 2 hedged").derive(mixed.digest())
    return Fresh(drawn[:32], drawn[32:48], drawn[48:])


def wrap(data_key: bytes, vault_key: VaultKey) -> Slot:
    """A key slot for `vault_key` (AES key wrap, RFC 3394)."""
    return Slot(bytes.fromhex(vault_key.key_id), aes_key_wrap(vault_key.wrapping_key(), data_key))


def unwrap(slots: list[Slot | None], vault_key: VaultKey) -> bytes:
    """The data key, from the slot that was made for this vault key.

    Raises:
        WrongKey: no slot is for this vault key.
        Damaged: the slot names this vault key but does not unwrap.
    """
    key_id = bytes.fromhex(vault_key.key_id)
    for slot in slots:
        if slot is not None and slot.key_id == key_id:
            try:
                return aes_key_unwrap(vault_key.wrapping_key(), slot.wrapped)
            except InvalidUnwrap:
                raise Damaged("The wrapped key in the sealed object was changed; restore it from a backup.") from None
    named = ", ".join(slot.key_id.hex()[:8] for slot in slots if slot is not None) or "no key"
    raise WrongKey(
        f"Sealed under another vault key (it names {named}; yours is {vault_key.key_id[:8]}). Open it with that key."
    )


@dataclass(frozen=True, slots=True)
class ObjectKeys:
    """Keys derived from the data key and the salt (HKDF-SHA256)."""

    sealing: AESGCM
    inner: bytes
    committing: bytes
    sharing: bytes
    """Authenticates recipients."""

    @classmethod
    def derive(cls, data_key: bytes, salt: bytes) -> "ObjectKeys":
        """Four independent keys."""
        expanded = HKDF(algorithm=SHA256(), length=128, salt=salt, info=b"he-infer object 2 keys").derive(data_key)
        return cls(AESGCM(expanded[:32]), expanded[32:64], expanded[64:96], expanded[96:])

    def commitment(self, prefix: bytes, header: bytes) -> bytes:
        """The 32 bytes that stand after the header: they authenticate it and commit to the data key."""
        return hmac.digest(self.committing, prefix + header, "sha256")

    def inner_salt(self, salt: bytes, number: int) -> bytes:
        """The inner cipher's salt for one chunk."""
        return hashlib.sha256(b"he-infer chunk 2" + salt + number.to_bytes(8, "little")).digest()[:16]
