"""Changing the vault key of sealed objects: the wrapped data key is written anew, the body is not touched.

An object has two key slots. The new key goes into the free one and is flushed to the disk before the old one is erased;
so at every moment at least one of the two vault keys opens the object, and an interrupted rekey is finished by running
it again.
"""

import os
from pathlib import Path
from typing import BinaryIO

from cipher.container.beginning import Beginning, read_beginning, reading, slot_position
from cipher.container.header import EMPTY_SLOT, SLOTS, Slot, parse_slot
from cipher.container.object_keys import ObjectKeys, unwrap, wrap
from cipher.container.recipients import check
from cipher.errors import Damaged, StorageProblem, WrongKey
from cipher.files.lock import open_exclusive
from cipher.keys.vault_key import VaultKey


def rekey_file(path: str | os.PathLike[str], old: VaultKey, new: VaultKey) -> bool:
    """Make `new` the only key that opens a sealed file, in place.

    Writes 128 bytes, whatever the file's size. A copy of the file made before still opens with the old key.

    Returns:
        Whether anything had to be changed.

    Raises:
        WrongKey: neither key opens the object.
        Damaged, UnsupportedFormat, UnsupportedVersion: as opening it.
        StorageProblem: the file cannot be read or written.
    """
    try:
        with open_exclusive(Path(path)) as handle:
            return rekey_stream(handle, old, new)
    except OSError as error:
        raise StorageProblem(f"Cannot rekey {os.fspath(path)}: {error.strerror or error}.") from error


def rekey_stream(handle: BinaryIO, old: VaultKey, new: VaultKey) -> bool:
    """As `rekey_file`, on an object that is open for reading and writing, and that the caller has locked.

    Raises:
        As `rekey_file`, but OSError where it cannot be read or written.
    """
    plan = _plan(read_beginning(handle), old, new)
    for index, slot in plan:
        handle.seek(slot_position(index))
        handle.write(slot)
        handle.flush()
        os.fsync(handle.fileno())
    return bool(plan)


def rekey_bytes(sealed: bytes, old: VaultKey, new: VaultKey) -> bytes:
    """The same object with `new` as its only key; of the same length.

    Raises:
        As `rekey_file`.
    """
    with reading(sealed) as source:
        plan = _plan(read_beginning(source), old, new)
    changed = bytearray(sealed)
    for index, slot in plan:
        position = slot_position(index)
        changed[position : position + len(slot)] = slot
    return bytes(changed)


def _plan(beginning: Beginning, old: VaultKey, new: VaultKey) -> list[tuple[int, bytes]]:
    """Slots to write, in this order: the new key's first, then the erased one."""
    slots = [_slot_or_none(slot) for slot in beginning.slots]
    wanted = bytes.fromhex(new.key_id)
    holder = next((index for index, slot in enumerate(slots) if slot is not None and slot.key_id == wanted), None)
    try:
        data_key = unwrap(slots, new if holder is not None else old)
    except WrongKey:
        beginning.parsed_slots()  # a damaged slot, rather than another key, may be why
        raise
    keys = ObjectKeys.derive(data_key, beginning.header.salt)
    if keys.commitment(beginning.prefix_bytes, beginning.header_bytes) != beginning.commitment:
        raise Damaged("The header of the sealed object was changed; restore it from a backup.")
    check(beginning.recipients, keys)
    plan: list[tuple[int, bytes]] = []
    if holder is None:
        current = bytes.fromhex(old.key_id)
        holder = next(index for index in range(SLOTS) if (slot := slots[index]) is None or slot.key_id != current)
        plan.append((holder, wrap(data_key, new).pack()))
    plan += [(index, EMPTY_SLOT) for index in range(SLOTS) if index != holder and beginning.slots[index] != EMPTY_SLOT]
    return plan


def _slot_or_none(data: bytes) -> Slot | None:
    """The slot; none if it is half written. An interrupted rekey leaves such a slot, and the next rekey mends it."""
    try:
        return parse_slot(data)
    except Damaged:
        return None
