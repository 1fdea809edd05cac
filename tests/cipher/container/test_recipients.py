"""Recipients of sealed objects: opening, adding others, interruption."""

import io
import tempfile
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import pytest

from cipher.container.api import Options, describe, open_bytes, seal_array, seal_bytes
from cipher.container.beginning import recipient_position
from cipher.container.header import RECIPIENT_SIZE
from cipher.container.opening import Opening
from cipher.container.rekey import rekey_bytes
from cipher.container.sharing import share_stream, unshare_stream
from cipher.errors import AlreadyExists, BadKey, BadSpan, Damaged, WrongKey
from cipher.keys.recipient_key import RecipientKey
from cipher.keys.vault_key import VaultKey

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))
ONE, TWO, THREE = (RecipientKey.generate() for _ in range(3))


def changed(sealed: bytes, change: Callable[[BinaryIO], object]) -> bytes:
    with tempfile.TemporaryFile() as handle:
        handle.write(sealed)
        change(handle)
        handle.seek(0)
        return handle.read()


def read(sealed: bytes, key: RecipientKey | VaultKey) -> bytes:
    opening = Opening(io.BytesIO(sealed), key)
    return b"".join(bytes(piece) for piece in opening.payload())


SHARED = seal_bytes(b"findings", KEY, options=Options(recipients=((ONE.public, False), (TWO.public, True))))


def test_every_recipient_opens_the_object_and_nobody_else() -> None:
    for key in (KEY, ONE, TWO):
        assert read(SHARED, key) == b"findings"
    with pytest.raises(WrongKey, match="not shared with"):
        read(SHARED, THREE)
    said = describe(SHARED)
    assert [(found.key_id, found.recovery) for found in said.recipients] == [(ONE.key_id, False), (TWO.key_id, True)]
    assert said.recipient_slots == 4


@pytest.mark.parametrize("key", [KEY, ONE], ids=["vault", "recipient"])
def test_sharing_and_unsharing_write_one_slot(key: VaultKey | RecipientKey) -> None:
    more = changed(SHARED, lambda handle: share_stream(handle, key, THREE.public))
    assert read(more, THREE) == b"findings"
    different = [place for place, (a, b) in enumerate(zip(SHARED, more, strict=True)) if a != b]
    assert recipient_position(2) <= min(different) <= max(different) < recipient_position(3)
    assert changed(more, lambda handle: share_stream(handle, key, THREE.public)) == more
    less = changed(more, lambda handle: unshare_stream(handle, key, THREE.key_id))
    assert less == SHARED
    with pytest.raises(WrongKey):
        read(less, THREE)


def test_only_the_holder_of_a_key_can_share() -> None:
    with pytest.raises(WrongKey):
        share_stream(io.BytesIO(SHARED), THREE, THREE.public)
    with pytest.raises(WrongKey):
        share_stream(io.BytesIO(SHARED), OTHER, THREE.public)


def test_recipient_added_without_a_key_is_noticed_by_all_and_can_be_removed() -> None:
    """The attacker knows the format, not the data key: the slot carries a right checksum and opens to another key."""
    foreign = seal_bytes(b"findings", OTHER, options=Options(recipients=((THREE.public, False),)))
    slot = foreign[recipient_position(0) : recipient_position(1)]
    at = recipient_position(3)
    forged = SHARED[:at] + slot + SHARED[at + RECIPIENT_SIZE :]
    for key in (KEY, ONE, THREE):
        with pytest.raises(Damaged):
            read(forged, key)
    mended = changed(forged, lambda handle: unshare_stream(handle, KEY, THREE.key_id))
    assert mended == SHARED


def test_slot_cannot_be_moved_or_marked_as_recovery() -> None:
    first, third = recipient_position(0), recipient_position(2)
    moved = bytearray(SHARED)
    moved[third : third + RECIPIENT_SIZE] = SHARED[first : first + RECIPIENT_SIZE]
    with pytest.raises(Damaged):
        read(bytes(moved), KEY)


def test_half_written_slot_is_mended_by_sharing_again() -> None:
    more = changed(SHARED, lambda handle: share_stream(handle, KEY, THREE.public))
    at = recipient_position(2)
    torn = more[: at + 40] + SHARED[at + 40 :]
    with pytest.raises(Damaged, match="half written"):
        read(torn, KEY)
    mended = changed(torn, lambda handle: share_stream(handle, KEY, THREE.public))
    assert read(mended, THREE) == b"findings"
    assert changed(torn, lambda handle: unshare_stream(handle, KEY, THREE.key_id)) == SHARED


def test_recipients_stay_when_the_vault_key_changes() -> None:
    rekeyed = rekey_bytes(SHARED, KEY, OTHER)
    assert read(rekeyed, OTHER) == read(rekeyed, ONE) == b"findings"
    with pytest.raises(WrongKey):
        read(rekeyed, KEY)


def test_full_slots_and_doubled_recipients_are_refused() -> None:
    small = seal_bytes(b"x", KEY, options=Options(recipients=((ONE.public, False),), recipient_slots=1))
    with pytest.raises(BadKey, match="slots"):
        share_stream(io.BytesIO(small), KEY, TWO.public)
    with pytest.raises(AlreadyExists, match="twice"):
        seal_bytes(b"x", KEY, options=Options(recipients=((ONE.public, False), (ONE.public, True))))


def test_more_recipients_than_an_object_has_slots_for_are_refused() -> None:
    for options in (
        Options(recipients=tuple((RecipientKey.generate().public, False) for _ in range(65))),
        Options(recipient_slots=65),
        Options(recipient_slots=-1),
    ):
        with pytest.raises(BadKey, match="at most 64"):
            seal_bytes(b"x", KEY, options=options)
    assert describe(seal_bytes(b"x", KEY, options=Options(recipient_slots=64))).recipient_slots == 64


def test_same_data_key_gives_each_slot_its_own_bytes() -> None:
    again = changed(SHARED, lambda handle: unshare_stream(handle, KEY, ONE.key_id))
    again = changed(again, lambda handle: share_stream(handle, KEY, ONE.public))
    at = recipient_position(0)
    assert again[at + 24 : at + 96] != SHARED[at + 24 : at + 96]


class TestFrames:
    VOLUME = np.random.default_rng(1).integers(0, 4000, (30, 20, 24)).astype("<u2")
    SEALED = seal_array(VOLUME, KEY, options=Options(frames=4, recipients=((ONE.public, False),)))

    @pytest.mark.parametrize(("first", "last"), [(0, 30), (0, 1), (29, 30), (3, 5), (4, 8), (7, 21)])
    def test_frames_are_read_without_the_others(self, first: int, last: int) -> None:
        class Watched(io.BytesIO):
            bytes_read = 0

            def readinto(self, buffer: object) -> int:
                count = super().readinto(buffer)  # type: ignore[arg-type]  # typeshed's buffer protocol
                self.bytes_read += count
                return count

        source = Watched(self.SEALED)
        np.testing.assert_array_equal(Opening(source, ONE).frames(first, last), self.VOLUME[first:last])
        groups = (last + 3) // 4 - first // 4
        assert source.bytes_read <= groups * (4 * 20 * 24 * 2 + 16)

    @pytest.mark.parametrize(("first", "last"), [(-1, 3), (3, 3), (5, 4), (29, 31)])
    def test_frames_that_are_not_there_are_refused(self, first: int, last: int) -> None:
        with pytest.raises(BadSpan, match="0 to 29"):
            Opening(io.BytesIO(self.SEALED), KEY).frames(first, last)

    def test_groups_cannot_change_places(self) -> None:
        group = 4 * 20 * 24 * 2 + 16
        first = len(self.SEALED) - 7 * group - (2 * 20 * 24 * 2 + 16)
        swapped = bytearray(self.SEALED)
        swapped[first : first + group] = self.SEALED[first + group : first + 2 * group]
        swapped[first + group : first + 2 * group] = self.SEALED[first : first + group]
        with pytest.raises(Damaged):
            Opening(io.BytesIO(bytes(swapped)), KEY).frames(0, 2)

    def test_image_of_one_frame_is_refused(self) -> None:
        with pytest.raises(BadSpan, match="several frames"):
            Opening(io.BytesIO(seal_bytes(b"x", KEY)), KEY).frames(0, 1)
        with pytest.raises(BadSpan, match="Groups"):
            seal_array(np.zeros((20, 24), np.uint8), KEY, options=Options(frames=2))


def test_version_1_is_refused_by_name() -> None:
    old = SHARED[:4] + b"\1\0" + SHARED[6:]
    with pytest.raises(Exception, match="format version 1, which no published release wrote"):
        open_bytes(old, KEY)
