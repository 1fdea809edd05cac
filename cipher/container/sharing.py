"""Changing the recipients of a sealed object in place: 128 bytes are written, the body is not touched."""

import os
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from cipher.container.beginning import read_beginning, recipient_position
from cipher.container.recipients import EMPTY_RECIPIENT, check, is_whole, list_recipients, make_slot
from cipher.container.unlock import OpeningKey, unlock
from cipher.errors import BadKey
from cipher.keys.recipient_key import key_id_of


def share_stream(handle: BinaryIO, key: OpeningKey, public: X25519PublicKey, *, recovery: bool = False) -> bool:
    """Add a recipient to an object that is open for reading and writing, and that the caller has locked.

    128 bytes are written; the body is not touched. A recipient who is there already is only marked for recovery, if
    that is asked for and was not done before.

    Returns:
        Whether anything was written.

    Raises:
        BadKey: no slot is free.
        WrongKey, Damaged, UnsupportedFormat, UnsupportedVersion: as opening the object.
        OSError: it cannot be written.
    """
    beginning = read_beginning(handle)
    data_key, keys = unlock(beginning, key)
    check([slot if is_whole(slot) else EMPTY_RECIPIENT for slot in beginning.recipients], keys)
    key_id = key_id_of(public).hex()
    there = next((found for found in list_recipients(beginning.recipients) if found.key_id == key_id), None)
    if there is not None and (there.recovery or not recovery):
        return False
    free = next(
        (n for n, slot in enumerate(beginning.recipients) if slot == EMPTY_RECIPIENT or not is_whole(slot)), None
    )
    if there is not None:
        free = there.slot
    if free is None:
        raise BadKey(
            f"All {len(beginning.recipients)} recipient slots of the sealed object are taken; remove a recipient, "
            "or seal the file again with more slots."
        )
    _write(handle, free, make_slot(free, public, keys, data_key, recovery=recovery))
    return True


def unshare_stream(handle: BinaryIO, key: OpeningKey, key_id: str) -> bool:
    """Remove a recipient; as `share_stream`. Copies made before still open for the recipient.

    Returns:
        Whether the recipient was there.

    Raises:
        As `share_stream`.
    """
    beginning = read_beginning(handle)
    unlock(beginning, key)
    found = {recipient.slot for recipient in list_recipients(beginning.recipients) if recipient.key_id == key_id}
    for number, slot in enumerate(beginning.recipients):
        if number in found or (slot != EMPTY_RECIPIENT and not is_whole(slot)):
            _write(handle, number, EMPTY_RECIPIENT)
    return bool(found)


def _write(handle: BinaryIO, number: int, slot: bytes) -> None:
    handle.seek(recipient_position(number))
    handle.write(slot)
    handle.flush()
    os.fsync(handle.fileno())
