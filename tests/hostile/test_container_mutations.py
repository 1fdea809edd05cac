"""Sealed objects changed by an attacker or a failing disk: no change gives a false payload."""

import os
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cipher.container.api import Options, PixelSpan, describe, open_array, open_bytes, seal_array, seal_bytes, verify
from cipher.container.beginning import recipient_position
from cipher.container.header import COMMITMENT_SIZE, PREFIX, SLOT_SIZE, SLOTS_AT
from cipher.errors import CipherError, Damaged, FormatProblem, UnsupportedFormat, UnsupportedVersion, WrongKey
from cipher.keys.vault_key import VaultKey

KEY = VaultKey(bytes(range(32)))
HEADER_AT = recipient_position(Options().recipient_slots)
IMAGE = np.arange(35, dtype="<u2").reshape(5, 7)
ARRAY = seal_array(IMAGE, KEY, name="x", options=Options(labels={"UID": "1.2"}))
FILE = seal_bytes(
    bytes(range(200)), KEY, span=PixelSpan(20, 160, "<u2", (8, 10)), options=Options(chunk_bytes=64, private={"a": "b"})
)


def open_any(sealed: bytes, key: VaultKey = KEY) -> bytes:
    """The payload of any kind of object."""
    try:
        return open_bytes(sealed, key)
    except UnsupportedFormat:
        return open_array(sealed, key).tobytes()


@pytest.mark.parametrize("sealed", [ARRAY, FILE], ids=["array", "file in chunks"])
def test_every_single_flipped_bit_is_refused_as_damage(sealed: bytes) -> None:
    """Never as a wrong key: the vault key is right. A changed magic or version is refused by its own error."""
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        expected = UnsupportedFormat if bit < 32 else UnsupportedVersion if bit < 48 else Damaged
        for read in (open_any, lambda data: verify(data, KEY)):
            with pytest.raises(expected):
                read(bytes(changed))


@pytest.mark.parametrize("sealed", [ARRAY, FILE], ids=["array", "file in chunks"])
def test_truncation_at_every_byte_is_refused(sealed: bytes) -> None:
    for length in range(len(sealed)):
        with pytest.raises(UnsupportedFormat if length < 4 else Damaged):
            open_any(sealed[:length])
        with pytest.raises(FormatProblem):
            describe(sealed[:length])


@pytest.mark.parametrize("added", [b"\0", b"x" * 16, FILE])
def test_anything_added_is_refused(added: bytes) -> None:
    with pytest.raises(Damaged, match="added"):
        open_any(FILE + added)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_mutation_gives_the_truth_or_an_error(data: st.DataObject) -> None:
    """Runs of bytes overwritten, removed, doubled or moved."""
    sealed = bytearray(data.draw(st.sampled_from([ARRAY, FILE])))
    truth = bytes(sealed)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(sealed)))
        end = data.draw(st.integers(start, min(len(sealed), start + 80)))
        piece = data.draw(st.one_of(st.binary(max_size=80), st.just(bytes(sealed[start:end]) * 2), st.just(b"")))
        sealed[start:end] = piece
    if bytes(sealed) == truth:
        return
    with pytest.raises(CipherError):
        open_any(bytes(sealed))


class TestParts:
    """Parts of two objects of the same shape, key and vault, exchanged in every way."""

    PAYLOADS = (bytes(200), bytes([255]) * 200)
    OBJECTS = tuple(seal_bytes(payload, KEY, options=Options(chunk_bytes=64)) for payload in PAYLOADS)

    @staticmethod
    def cuts(sealed: bytes) -> list[int]:
        header_length = PREFIX.unpack_from(sealed)[3]
        body = HEADER_AT + header_length + COMMITMENT_SIZE
        records = [body, body + 64 + 16] + [body + 80 * number for number in (2, 3, 4)]
        return [0, SLOTS_AT, SLOTS_AT + SLOT_SIZE, HEADER_AT, body - COMMITMENT_SIZE, *records, len(sealed)]

    def test_every_mixture_of_parts_is_refused(self) -> None:
        first, second = self.OBJECTS
        cuts = self.cuts(first)
        parts = [(first[a:b], second[a:b]) for a, b in pairwise(cuts)]
        assert len(parts) == 10
        different = [index for index, (a, b) in enumerate(parts) if a != b]
        assert len(different) == 8, "prefix and the empty slot are the same"
        for size in range(1, len(different)):
            for chosen in combinations(different, size):
                mixed = b"".join(pair[index in chosen] for index, pair in enumerate(parts))
                with pytest.raises(Damaged):
                    open_bytes(mixed, KEY)

    def test_records_cannot_be_reordered_repeated_or_left_out(self) -> None:
        sealed = self.OBJECTS[0]
        cuts = self.cuts(sealed)
        records = [sealed[a:b] for a, b in pairwise(cuts[5:])]
        assert sealed == sealed[: cuts[5]] + b"".join(records)
        for a, b in combinations(range(len(records)), 2):
            swapped = list(records)
            swapped[a], swapped[b] = swapped[b], swapped[a]
            with pytest.raises(Damaged):
                open_bytes(sealed[: cuts[5]] + b"".join(swapped), KEY)
        for changed in (records[:-1], records[1:], [*records, records[-1]], [records[0], records[0], *records[2:]]):
            with pytest.raises(Damaged):
                open_bytes(sealed[: cuts[5]] + b"".join(changed), KEY)

    def test_a_shorter_header_does_not_cut_the_end_off(self) -> None:
        """The header is authentic or refused, so a record cannot be made the last one."""
        long = seal_bytes(bytes(128), KEY, options=Options(chunk_bytes=64))
        changed = bytearray(long)
        position = long.index(struct.pack("<Q", 128), HEADER_AT)
        while position >= 0:
            changed[position : position + 8] = struct.pack("<Q", 64)
            position = long.find(struct.pack("<Q", 128), position + 8)
        assert describe(bytes(changed[:-80])).payload_bytes == 64
        with pytest.raises(Damaged, match="header"):
            open_bytes(bytes(changed[:-80]), KEY)


class TestWrongKey:
    @pytest.mark.parametrize("number", range(5))
    def test_another_vault_key_is_a_wrong_key_not_damage(self, number: int) -> None:
        with pytest.raises(WrongKey):
            open_any(FILE, VaultKey(bytes([number]) * 32))

    def test_a_slot_that_names_the_key_but_holds_another_is_damage(self) -> None:
        """An attacker can make such a slot: a right checksum, and any content."""
        import hashlib

        content = bytes.fromhex(KEY.key_id) + os.urandom(40)
        slot = content + hashlib.sha256(content).digest()[:8]
        with pytest.raises(Damaged, match="wrapped key"):
            open_any(FILE[:SLOTS_AT] + slot + FILE[SLOTS_AT + SLOT_SIZE :])

    def test_a_body_under_a_key_of_the_attacker_is_damage(self) -> None:
        """The data key is committed to: a slot taken from another object of the vault does not open this one."""
        other = seal_bytes(bytes(range(200)), KEY)
        mixed = FILE[:SLOTS_AT] + other[SLOTS_AT:HEADER_AT] + FILE[HEADER_AT:]
        with pytest.raises(Damaged, match="another object's"):
            open_any(mixed)


class TestSizes:
    """Claims of a header are compared with the object's real length before anything is allocated."""

    @staticmethod
    def claiming(shape: tuple[int, ...], payload: int) -> bytes:
        sealed = bytearray(ARRAY)
        shape_at = sealed.index(struct.pack("<QQ", 5, 7))
        sealed[shape_at : shape_at + 16] = struct.pack("<QQ", *shape)
        payload_at = sealed.index(struct.pack("<Q", 70), HEADER_AT)
        sealed[payload_at : payload_at + 8] = struct.pack("<Q", payload % 2**64)
        return bytes(sealed)

    @pytest.mark.parametrize(
        ("shape", "payload"),
        [
            ((2**31, 2**31), 2**63),
            ((2**31, 2**31), 70),
            ((2**32, 2**32), 0),
            ((2**63, 2**63), 2**64 - 1),
            ((2**20, 2**20), 2**41),
            ((2**23, 2**24), 2**48),
            ((0, 2**64 - 1), 0),
            ((36, 1), 72),
        ],
    )
    def test_a_claim_that_does_not_fit_is_refused_in_a_megabyte(self, shape: tuple[int, ...], payload: int) -> None:
        hostile = self.claiming(shape, payload)
        tracemalloc.start()
        try:
            for read in (open_any, describe, lambda data: verify(data, KEY)):
                with pytest.raises(Damaged):
                    read(hostile)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2**20

    def test_a_header_longer_than_64_kib_is_refused_unread(self) -> None:
        hostile = ARRAY[:8] + struct.pack("<I", 2**31) + ARRAY[12:]
        with pytest.raises(Damaged):
            open_any(hostile)

    def test_tiny_chunks_of_a_huge_claim_are_counted_not_listed(self) -> None:
        hostile = bytearray(self.claiming((2**23, 2**24), 2**48))
        at = hostile.index(struct.pack("<Q", 64 * 2**20), HEADER_AT)
        hostile[at : at + 8] = struct.pack("<Q", 8)
        with pytest.raises(Damaged, match="cut off"):
            open_any(bytes(hostile))


class TestConstantRandomness:
    """A random generator that always gives the same bytes."""

    @pytest.fixture(autouse=True)
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "urandom", lambda size: b"\x42" * size)

    def test_different_images_still_get_different_keys_and_nonces(self) -> None:
        one, other = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
        other[0, 0] = 1
        first, second = seal_array(one, KEY), seal_array(other, KEY)
        assert first[SLOTS_AT:HEADER_AT] != second[SLOTS_AT:HEADER_AT], "wrapped data keys"
        body = np.frombuffer(first[-1616:], np.uint8) ^ np.frombuffer(second[-1616:], np.uint8)
        assert np.count_nonzero(body) > 1550
        np.testing.assert_array_equal(open_array(second, KEY), other)

    @pytest.mark.parametrize("options", [Options(name="a"), Options(labels={"a": "b"}), Options(associated=b"x")])
    def test_the_same_image_under_another_header_gets_another_key(self, options: Options) -> None:
        image = np.zeros((40, 40), np.uint8)
        first, second = seal_array(image, KEY), seal_array(image, KEY, options=options)
        assert first[SLOTS_AT:HEADER_AT] != second[SLOTS_AT:HEADER_AT]
        assert first[-1616:] != second[-1616:]

    def test_the_same_image_in_another_vault_gets_another_key(self) -> None:
        image = np.zeros((40, 40), np.uint8)
        assert seal_array(image, KEY)[-1616:] != seal_array(image, VaultKey(bytes(32)))[-1616:]

    def test_public_header_confirms_no_guess_of_the_content(self) -> None:
        """The salt is keyed: with the generator's bytes known, it is still no digest of the image that one can try."""
        import hashlib

        sealed = seal_bytes(b"positive", KEY)
        public = sealed[HEADER_AT:]
        for guess in (b"positive", b"\x42" * 32 + b"positive"):
            assert hashlib.sha256(guess).digest()[:16] not in public


def test_a_sealed_object_opens_in_another_process() -> None:
    """Nothing that opening needs lives in the process that sealed."""
    code = """
        import sys
        from cipher.container.api import open_bytes
        from cipher.keys.vault_key import VaultKey
        sys.stdout.buffer.write(open_bytes(sys.stdin.buffer.read(), VaultKey(bytes(range(32)))))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], input=FILE, capture_output=True, check=True)
    assert done.stdout == bytes(range(200))
