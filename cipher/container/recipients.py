"""Recipients of a sealed object: public keys for which the data key is wrapped, beside the vault's key.

A recipient slot, 128 bytes; an empty one is all zero:

    0:16     key id of the recipient's X25519 key
    16       1 for a recovery recipient, which the vault's policy adds to every object; else 0
    17:24    zero
    24:56    ephemeral X25519 public key
    56:96    the data key under AES key wrap, by HKDF-SHA256 of the X25519 secret
    96:112   HMAC-SHA256, first 16 bytes, over the slot's number (u16) and bytes 0:96, under the object's sharing key
    112:120  zero
    120:128  SHA-256 of the bytes before, first 8: tells a half-written slot

Whoever has no key of the object cannot make the HMAC, and so cannot add a recipient whom others would take for one.
Whoever has one can take the data key itself: removal only keeps out those who have not opened the object yet.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cipher.container.header import RECIPIENT_SIZE
from cipher.container.object_keys import ObjectKeys
from cipher.errors import AlreadyExists, BadKey, Damaged
from cipher.keys.recipient_key import RecipientKey, key_id_of

EMPTY_RECIPIENT = bytes(RECIPIENT_SIZE)
generate_ephemeral = X25519PrivateKey.generate
_HMAC_AT, _ZERO_AT, _CHECKSUM_AT = 96, 112, 120


@dataclass(frozen=True, slots=True)
class ListedRecipient:
    """Content of a recipient slot; authentic only once `check` has passed."""

    key_id: str
    recovery: bool
    slot: int


def make_slot(number: int, public: X25519PublicKey, keys: ObjectKeys, data_key: bytes, *, recovery: bool) -> bytes:
    """A slot that opens the object for the holder of a public key."""
    ephemeral = generate_ephemeral()
    mine = _raw(ephemeral.public_key())
    wrapping = _wrapping_key(ephemeral.exchange(public), mine, _raw(public))
    body = key_id_of(public) + bytes([recovery]) + bytes(7) + mine + aes_key_wrap(wrapping, data_key)
    whole = body + _tag(number, body, keys) + bytes(_CHECKSUM_AT - _ZERO_AT)
    return whole + hashlib.sha256(whole).digest()[:8]


def list_recipients(slots: Sequence[bytes]) -> list[ListedRecipient]:
    """The recipients that the slots name; half-written and empty slots are passed over."""
    return [
        ListedRecipient(slot[:16].hex(), slot[16] == 1, number)
        for number, slot in enumerate(slots)
        if slot != EMPTY_RECIPIENT and is_whole(slot)
    ]


def check(slots: Sequence[bytes], keys: ObjectKeys) -> None:
    """Check that every slot is empty, or was written whole by somebody who had a key of the object.

    Raises:
        Damaged: one was not.
    """
    for number, slot in enumerate(slots):
        if slot == EMPTY_RECIPIENT:
            continue
        if not is_whole(slot):
            raise Damaged(
                "A recipient slot of the sealed object was changed or only half written. If sharing was interrupted, "
                "run the same command again: it mends the slot. Otherwise restore the object from a backup."
            )
        if not _is_authentic(number, slot, keys):
            raise Damaged(
                f"Recipient {slot[:16].hex()[:8]} of the sealed object was added by somebody without a key of it. "
                "Restore the object from a backup, or remove the recipient with: he-infer unshare"
            )


def unwrap_for(slots: Sequence[bytes], key: RecipientKey) -> bytes | None:
    """The data key for a recipient; none where no slot names the recipient.

    Raises:
        Damaged: a slot names the recipient and does not open.
    """
    public = key.public
    for slot in slots:
        if slot != EMPTY_RECIPIENT and is_whole(slot) and slot[:16].hex() == key.key_id:
            try:
                secret = key.private.exchange(X25519PublicKey.from_public_bytes(slot[24:56]))
                return aes_key_unwrap(_wrapping_key(secret, slot[24:56], _raw(public)), slot[56:96])
            except (InvalidUnwrap, ValueError):
                raise Damaged(
                    "The recipient's slot in the sealed object was changed; restore it from a backup."
                ) from None
    return None


def fill_slots(
    count: int, recipients: Sequence[tuple[X25519PublicKey, bool]], keys: ObjectKeys, data_key: bytes
) -> bytes:
    """The recipient slots of a new object.

    Raises:
        AlreadyExists: a recipient is named twice.
        BadKey: more recipients than slots.
    """
    ids = [key_id_of(public) for public, _ in recipients]
    if len(set(ids)) < len(ids):
        raise AlreadyExists("A recipient is named twice; name each recipient once.")
    if len(ids) > count:
        raise BadKey(f"{len(ids)} recipients do not fit {count} slots.")
    filled = [
        make_slot(number, public, keys, data_key, recovery=recovery)
        for number, (public, recovery) in enumerate(recipients)
    ]
    return b"".join(filled) + EMPTY_RECIPIENT * (count - len(filled))


def _wrapping_key(secret: bytes, ephemeral: bytes, public: bytes) -> bytes:
    info = b"he-infer recipient 2 wrap" + ephemeral + public
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)


def _tag(number: int, body: bytes, keys: ObjectKeys) -> bytes:
    return hmac.digest(keys.sharing, number.to_bytes(2, "little") + body, "sha256")[:16]


def _is_authentic(number: int, slot: bytes, keys: ObjectKeys) -> bool:
    fine = slot[16] in (0, 1) and not any(slot[17:24]) and not any(slot[_ZERO_AT:_CHECKSUM_AT])
    return fine and hmac.compare_digest(slot[_HMAC_AT:_ZERO_AT], _tag(number, slot[:_HMAC_AT], keys))


def is_whole(slot: bytes) -> bool:
    """Whether a slot was written to its end."""
    return hashlib.sha256(slot[:_CHECKSUM_AT]).digest()[:8] == slot[_CHECKSUM_AT:]


def _raw(public: X25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
