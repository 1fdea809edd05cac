"""Sealed objects: equal content after opening, public description, binding."""

import io
import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cipher.container import chunks
from cipher.container.api import (
    Kind,
    ObjectVersion,
    Options,
    PixelSpan,
    describe,
    open_array,
    open_bytes,
    open_file,
    open_stream,
    rekey_bytes,
    rekey_file,
    seal_array,
    seal_bytes,
    seal_file,
    seal_stream,
    verify,
)
from cipher.container.header import EMPTY_SLOT, SLOT_SIZE, SLOTS_AT
from cipher.errors import (
    BadSpan,
    ContextMismatch,
    Damaged,
    Replayed,
    SourceChanged,
    StorageProblem,
    UnsupportedFormat,
    UnsupportedImage,
    WrongKey,
)
from cipher.keys.vault_key import VaultKey

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))
TYPES = ["|u1", "|i1", "|b1", "<u2", ">u2", "<i2", ">i4", "<f4", ">f8", "<u8"]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(TYPES),
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.integers(8, 600),
    st.integers(0, 2**32 - 1),
)
def test_sealed_arrays_are_restored_equal(dtype: str, shape: list[int], chunk_bytes: int, seed: int) -> None:
    kind = np.dtype(dtype)
    raw = np.random.default_rng(seed).integers(0, 256, math.prod(shape) * kind.itemsize, dtype=np.uint8)
    array = (raw & 1).astype(bool) if dtype == "|b1" else raw.view(kind)
    array = array.reshape(shape)
    sealed = seal_array(array, KEY, options=Options(chunk_bytes=chunk_bytes))
    back = open_array(sealed, KEY)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    back.flags.writeable = True  # a copy of the reader's own, not a view of the sealed bytes


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=3000), st.integers(8, 1000))
def test_sealed_bytes_are_restored_equal(data: bytes, chunk_bytes: int) -> None:
    sealed = seal_bytes(data, KEY, options=Options(chunk_bytes=chunk_bytes))
    assert open_bytes(sealed, KEY) == data
    assert describe(sealed).chunks == -(-len(data) // chunk_bytes)


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(1, 20), st.integers(1, 20), st.integers(8, 400))
def test_file_with_pixel_span_is_restored_equal(
    before: bytes, after: bytes, rows: int, columns: int, limit: int
) -> None:
    data = before + os.urandom(2 * rows * columns) + after
    span = PixelSpan(len(before), 2 * rows * columns, ">i2", (rows, columns))
    sealed = seal_bytes(data, KEY, span=span, options=Options(chunk_bytes=limit))
    assert open_bytes(sealed, KEY) == data
    said = describe(sealed)
    assert (said.kind, said.dtype, said.shape) == (Kind.PIXEL_FILE, ">i2", (rows, columns))


def test_files_are_restored_with_name_and_mode(tmp_path: Path) -> None:
    source, sealed, back = tmp_path / "scan 1.dcm", tmp_path / "a.heiv", tmp_path / "b"
    source.write_bytes(os.urandom(5000))
    done: list[int] = []
    version = seal_file(source, sealed, KEY, options=Options(progress=done.append, private={"note": "left hip"}))
    opened = open_file(sealed, back, KEY, progress=done.append)
    assert back.read_bytes() == source.read_bytes()
    assert sum(done) == 10_000
    assert (opened.name, opened.private, opened.version) == ("scan 1.dcm", {"note": "left hip"}, version)
    assert stat.S_IMODE(back.stat().st_mode) == 0o600
    assert b"scan 1" not in sealed.read_bytes()
    assert b"left hip" not in sealed.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.heiv", "b", "scan 1.dcm"]


def test_the_inner_cipher_image_lies_inside() -> None:
    """The payload that AES-GCM seals is the cipher image, not the picture."""
    from cipher.algorithm.inner import decrypt_image
    from cipher.container.opening import Opening

    image = np.zeros((64, 64), np.uint16)
    sealed = seal_array(image, KEY)
    opening = Opening(io.BytesIO(sealed), KEY)
    record = bytearray(image.nbytes)
    opening._records.open(sealed[-(image.nbytes + 16) :], memoryview(record))
    enciphered = np.frombuffer(record, np.uint16).reshape(64, 64)
    assert len(np.unique(enciphered)) > 3500
    back = decrypt_image(enciphered, opening._keys.inner, opening._keys.inner_salt(opening.header.salt, 0))
    np.testing.assert_array_equal(back, image)


def test_inspect_without_key_shows_public_header() -> None:
    options = Options(labels={"Modality": "MR", "SOPInstanceUID": "1.2.3"}, associated=b"x")
    sealed = seal_array(np.zeros((3, 40, 50), "<u2"), KEY, name="secret name", options=options)
    said = describe(sealed)
    assert said.kind is Kind.ARRAY
    assert (said.dtype, said.shape, said.payload_bytes, said.chunks) == ("<u2", (3, 40, 50), 12_000, 1)
    assert said.sealed_bytes == len(sealed)
    assert said.key_ids == (KEY.key_id,)
    assert said.version.number == 1
    assert said.bound
    assert said.labels == options.labels


def test_two_sealings_of_one_image_share_nothing() -> None:
    image = np.zeros((40, 40), np.uint8)
    first, second = seal_array(image, KEY), seal_array(image, KEY)
    assert describe(first).version.object_id != describe(second).version.object_id
    same = sum(a == b for a, b in zip(first[-1600:], second[-1600:], strict=True))
    assert same < 40


class TestBinding:
    SEALED = seal_bytes(b"pixels", KEY, options=Options(associated=b"attributes"))

    def test_sealed_object_opens_with_its_bound_data(self) -> None:
        assert open_bytes(self.SEALED, KEY, associated=b"attributes") == b"pixels"
        assert verify(self.SEALED, KEY, associated=b"attributes").version.number == 1

    @pytest.mark.parametrize("associated", [b"", b"Attributes"])
    def test_other_bound_data_does_not_open(self, associated: bytes) -> None:
        with pytest.raises(ContextMismatch, match="surrounds"):
            open_bytes(self.SEALED, KEY, associated=associated)

    def test_unbound_object_with_bound_data_does_not_open(self) -> None:
        with pytest.raises(ContextMismatch):
            open_bytes(seal_bytes(b"", KEY), KEY, associated=b"something")


class TestVersions:
    def test_a_later_version_keeps_the_identity(self) -> None:
        first = describe(seal_bytes(b"one", KEY)).version
        second = describe(seal_bytes(b"two", KEY, options=Options(replaces=first))).version
        assert second == ObjectVersion(first.object_id, 2)

    def test_an_older_version_and_another_object_are_refused(self) -> None:
        one = seal_bytes(b"one", KEY)
        first = describe(one).version
        two = seal_bytes(b"two", KEY, options=Options(replaces=first))
        second = describe(two).version
        assert open_bytes(two, KEY, expect=second) == b"two"
        assert open_bytes(two, KEY, expect=first) == b"two", "a later one than expected is fine"
        with pytest.raises(Replayed, match="older"):
            open_bytes(one, KEY, expect=second)
        with pytest.raises(Replayed, match="wrong place"):
            open_bytes(seal_bytes(b"one", KEY), KEY, expect=first)

    def test_a_version_number_cannot_be_forged(self) -> None:
        one = bytearray(seal_bytes(b"one", KEY))
        at = one.index(bytes.fromhex(describe(bytes(one)).version.object_id)) + 16
        one[at] = 2
        assert describe(bytes(one)).version.number == 2
        with pytest.raises(Damaged, match="header"):
            open_bytes(bytes(one), KEY, expect=describe(bytes(one)).version)


class TestKinds:
    def test_an_array_is_not_restored_as_a_file_nor_a_file_as_an_array(self) -> None:
        with pytest.raises(UnsupportedFormat, match="an array"):
            open_bytes(seal_array(np.zeros(3, np.uint8), KEY), KEY)
        with pytest.raises(UnsupportedFormat, match="a file"):
            open_array(seal_bytes(b"x", KEY), KEY)

    @pytest.mark.parametrize("data", [b"", b"HEI", b"\x89PNG\r\n", bytes(5000)])
    def test_other_files_are_not_sealed_objects(self, data: bytes) -> None:
        for read in (describe, lambda source: open_bytes(source, KEY), lambda source: rekey_bytes(source, KEY, OTHER)):
            with pytest.raises(UnsupportedFormat, match="not a sealed object"):
                read(data)


class TestSpans:
    DATA = bytes(1000)

    @pytest.mark.parametrize(
        "span",
        [
            PixelSpan(0, 1001, "|u1", (1001,)),
            PixelSpan(-1, 10, "|u1", (10,)),
            PixelSpan(990, 20, "<u2", (10,)),
            PixelSpan(0, 100, "<u2", (10, 10)),
            PixelSpan(0, 8, "O", (1,)),
            PixelSpan(0, 4, "u2", (2,)),
            PixelSpan(0, 4, "<u1", (2, 2)),
            PixelSpan(0, 4, "nonsense", (2, 2)),
            PixelSpan(0, 1, "|u1", (1, 1, 1, 1, 1)),
            PixelSpan(0, 4, "|u1", (-2, -2)),
        ],
    )
    def test_spans_that_do_not_fit_are_refused(self, span: PixelSpan) -> None:
        with pytest.raises((BadSpan, UnsupportedImage)):
            seal_bytes(self.DATA, KEY, span=span)

    def test_too_many_labels_are_refused(self) -> None:
        with pytest.raises(BadSpan, match="Labels"):
            seal_bytes(b"", KEY, options=Options(labels={"x": "y" * 40_000}))
        with pytest.raises(BadSpan, match="Private"):
            seal_bytes(b"", KEY, options=Options(private={"x": "y" * 2_000_000}))


def test_a_source_that_changes_while_it_is_sealed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of 64 MiB or less is read once; of a larger one the second reading is compared with the first."""
    monkeypatch.setattr("cipher.container.content.WHOLE", 50)

    class Changing(io.BytesIO):
        def seek(self, offset: int, whence: int = 0, /) -> int:
            if whence == 0:
                with self.getbuffer() as view:
                    view[7] ^= 1
            return super().seek(offset, whence)

    with pytest.raises(SourceChanged):
        seal_stream(Changing(bytes(100)), io.BytesIO(), KEY)


class TestFiles:
    def test_a_missing_source_leaves_no_destination(self, tmp_path: Path) -> None:
        with pytest.raises(StorageProblem, match="Cannot read"):
            seal_file(tmp_path / "missing", tmp_path / "out", KEY)
        with pytest.raises(StorageProblem, match="Cannot read"):
            open_file(tmp_path / "missing", tmp_path / "out", KEY)
        with pytest.raises(StorageProblem, match="Cannot read"):
            describe(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_folder_is_one_clear_line(self, tmp_path: Path) -> None:
        (tmp_path / "in").write_bytes(b"x")
        with pytest.raises(StorageProblem, match=r"Cannot write .* Nothing was changed"):
            seal_file(tmp_path / "in", tmp_path / "no" / "out", KEY)

    def test_a_failed_restore_leaves_the_old_file(self, tmp_path: Path) -> None:
        sealed, back = tmp_path / "sealed", tmp_path / "back"
        data = bytearray(seal_bytes(bytes(10_000), KEY, options=Options(chunk_bytes=1000)))
        data[-1] ^= 1
        sealed.write_bytes(data)
        back.write_bytes(b"old")
        with pytest.raises(Damaged):
            open_file(sealed, back, KEY)
        assert back.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_stream_gives_only_authentic_bytes_before_it_fails(self) -> None:
        data = os.urandom(10_000)
        sealed = bytearray(seal_bytes(data, KEY, options=Options(chunk_bytes=1000)))
        sealed[-1] ^= 1
        target = io.BytesIO()
        with pytest.raises(Damaged):
            open_stream(io.BytesIO(sealed), target, KEY)
        assert target.getvalue() == data[:9000]


class TestChunks:
    def test_payloads_up_to_64_mib_are_whole_and_larger_ones_cut(self) -> None:
        assert chunks.chunk_limit(64 * 2**20) == 64 * 2**20
        assert chunks.chunk_limit(64 * 2**20 + 1) == 16 * 2**20

    def test_chunks_are_cut_along_frames_then_rows_then_samples(self) -> None:
        from cipher.container.header import Header, Segment

        def cut(shape: tuple[int, ...], limit: int) -> list[tuple[int, ...]]:
            segment = Segment("<u2", shape)
            header = Header(Kind.ARRAY, bytes(16), 1, bytes(16), bytes(32), limit, 0, (segment,))
            pieces = list(chunks.cut(header))
            assert len(pieces) == chunks.count_chunks(header)
            assert sum(piece.nbytes for piece in pieces) == segment.nbytes
            return [piece.shape for piece in pieces]

        assert cut((5, 10, 10), 1000) == [(5, 10, 10)]
        assert cut((5, 10, 10), 400) == [(2, 10, 10), (2, 10, 10), (1, 10, 10)]
        assert cut((2, 5, 10), 60) == [(3, 10)] * 3 + [(1, 10)]
        assert cut((1, 10), 8) == [(4,), (4,), (2,)]


class TestRekey:
    def test_only_the_new_key_opens_and_only_the_slots_change(self, tmp_path: Path) -> None:
        path = tmp_path / "object"
        path.write_bytes(seal_bytes(os.urandom(3000), KEY))
        before = path.read_bytes()
        inode = path.stat().st_ino
        assert rekey_file(path, KEY, OTHER)
        after = path.read_bytes()
        assert path.stat().st_ino == inode
        assert len(after) == len(before)
        body_at = SLOTS_AT + 2 * SLOT_SIZE
        assert (after[:SLOTS_AT], after[body_at:]) == (before[:SLOTS_AT], before[body_at:])
        assert open_bytes(after, OTHER) == open_bytes(before, KEY)
        with pytest.raises(WrongKey, match="another vault key"):
            open_bytes(after, KEY)
        assert describe(path).key_ids == (OTHER.key_id,)

    def test_interrupted_rekey_is_finished_by_running_it_again(self, tmp_path: Path) -> None:
        path = tmp_path / "object"
        path.write_bytes(seal_bytes(b"x", KEY))
        assert rekey_file(path, KEY, OTHER)
        assert not rekey_file(path, KEY, OTHER)
        assert rekey_bytes(path.read_bytes(), KEY, OTHER) == path.read_bytes()

    def test_rekey_back_and_forth_opens_with_the_last_key(self) -> None:
        sealed = seal_bytes(b"x", KEY)
        assert rekey_bytes(rekey_bytes(sealed, KEY, OTHER), OTHER, KEY)[:SLOTS_AT] == sealed[:SLOTS_AT]
        assert open_bytes(rekey_bytes(rekey_bytes(sealed, KEY, OTHER), OTHER, KEY), KEY) == b"x"

    def test_a_half_written_slot_is_mended(self) -> None:
        sealed = seal_bytes(b"x", KEY)
        both = bytearray(sealed)
        torn = SLOTS_AT + SLOT_SIZE
        new_slot = rekey_bytes(sealed, KEY, OTHER)[torn : torn + SLOT_SIZE]
        both[torn : torn + SLOT_SIZE] = new_slot[:30] + bytes(34)
        with pytest.raises(Damaged, match="rekey was interrupted"):
            open_bytes(bytes(both), KEY)
        assert open_bytes(rekey_bytes(bytes(both), KEY, OTHER), OTHER) == b"x"
        assert open_bytes(rekey_bytes(bytes(both), KEY, KEY), KEY) == b"x"

    def test_a_foreign_object_is_not_rekeyed(self, tmp_path: Path) -> None:
        sealed = seal_bytes(b"x", VaultKey.generate())
        with pytest.raises(WrongKey):
            rekey_bytes(sealed, KEY, OTHER)
        with pytest.raises(StorageProblem, match="Cannot rekey"):
            rekey_file(tmp_path / "missing", KEY, OTHER)

    def test_a_fresh_object_has_one_empty_slot(self) -> None:
        assert seal_bytes(b"", KEY)[SLOTS_AT + SLOT_SIZE : SLOTS_AT + 2 * SLOT_SIZE] == EMPTY_SLOT
