"""A sealed region: the rest stays a valid image, the original comes back, and no part can be exchanged."""

import hashlib
import io
import json
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from cipher.container.api import open_bytes
from cipher.container.header import Kind
from cipher.container.opening import Opening
from cipher.dicom.frames import Frame, StoredFrames
from cipher.dicom.region import Box, Region, load_mask
from cipher.errors import (
    BadSpan,
    CipherError,
    ContextMismatch,
    Damaged,
    SourceChanged,
    UnsupportedFormat,
    UnsupportedImage,
    WrongKey,
)
from cipher.keys.vault_key import VaultKey
from cipher.vault.forms import describe_path, open_path, rekey_path, seal_path, sealed_container
from tests.cipher import by_the_document
from tests.cipher.container.test_format import read_by_the_document
from tests.cipher.opening import verify_sealed
from tests.cipher.packaged import packaged

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))
CT = packaged("CT_small.dcm")
VECTOR = Path(__file__).parents[2] / "vectors" / "dicom-region-v1.json"
BOX = Region((Box(20, 30, 40, 10),))


def seal(source: Path, target: Path, region: Region = BOX) -> Path:
    seal_path(source, target, KEY, "region", region=region)
    return target


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seal(CT, tmp_path_factory.mktemp("region") / "ct.dcm")


def restored(path: Path, folder: Path, key: VaultKey = KEY) -> bytes:
    open_path(path, folder / "back", key)
    return (folder / "back").read_bytes()


def test_visible_object_is_the_image_with_its_region_blanked(sealed: Path) -> None:
    original, shown = pydicom.dcmread(CT), pydicom.dcmread(sealed)
    before, after = original.pixel_array, shown.pixel_array
    inside = np.zeros(before.shape, bool)
    inside[30:40, 20:60] = True
    assert (after[inside] == before[~inside].min()).all()
    np.testing.assert_array_equal(after[~inside], before[~inside])
    assert shown.SOPInstanceUID != original.SOPInstanceUID
    assert shown.file_meta.MediaStorageSOPInstanceUID == shown.SOPInstanceUID
    assert shown.StudyInstanceUID == original.StudyInstanceUID
    assert shown.ImageType[0] == "DERIVED"
    assert not [element for element in shown if element.tag.is_private and element.tag.group != 0x7FE1]


def test_region_pixels_are_nowhere_in_the_visible_object(sealed: Path) -> None:
    rows = pydicom.dcmread(CT).pixel_array[30:40, 20:60]
    data = sealed.read_bytes()
    assert all(row[at : at + 4].tobytes() not in data for row in rows for at in range(0, 37, 4))


PLAIN = [
    "CT_small.dcm", "MR_small_implicit.dcm", "examples_rgb_color.dcm", "OBXXXX1A.dcm", "SC_rgb_small_odd.dcm",
    "rtdose.dcm", "examples_palette.dcm",
]  # fmt: skip
DECODED = [
    "JPEG2000.dcm", "emri_small_jpeg_2k_lossless.dcm", "emri_small_jpeg_ls_lossless.dcm", "JPEG-LL.dcm",
    "SC_rgb_jpeg_gdcm.dcm", "examples_ybr_color.dcm", "rtdose_rle.dcm", "SC_rgb_rle_2frame.dcm",
    "MR_small_bigendian.dcm", "SC_rgb_expb_2frame.dcm", "liver.dcm", "liver_expb_1frame.dcm",
]  # fmt: skip


@pytest.mark.parametrize("name", [*PLAIN, *DECODED])
def test_original_comes_back_byte_for_byte(name: str, tmp_path: Path) -> None:
    source = packaged(name)
    target = seal(source, tmp_path / "sealed.dcm", Region((Box(0, 0, 2, 2), Box(1, 1, 2, 2))))
    verify_sealed(target, KEY)
    assert describe_path(target).form == "region"
    assert restored(target, tmp_path) == source.read_bytes()
    before, after = pydicom.dcmread(source, force=True), pydicom.dcmread(target)
    assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    shown, plain = after.pixel_array, before.pixel_array
    blanked = np.zeros((before.Rows, before.Columns), bool)
    blanked[:2, :2] = blanked[1:3, 1:3] = True
    if after.SamplesPerPixel > 1:
        blanked = np.broadcast_to(blanked[..., None], (*blanked.shape, 3))
    assert shown.shape == plain.shape
    np.testing.assert_array_equal(shown[..., ~blanked], plain[..., ~blanked])
    frames = shown[..., blanked].reshape(int(before.get("NumberOfFrames") or 1), -1)
    assert (frames == frames[:, :1]).all(), "one value in each frame"


def test_region_of_a_decoded_image_is_sealed_in_every_frame(tmp_path: Path) -> None:
    source = packaged("emri_small_jpeg_2k_lossless.dcm")
    before = pydicom.dcmread(source).pixel_array
    target = seal(source, tmp_path / "sealed.dcm", Region((Box(10, 20, 30, 12),)))
    after = pydicom.dcmread(target).pixel_array
    assert before.shape == after.shape == (10, 64, 64)
    for plain, shown in zip(before, after, strict=True):
        outside = np.ones(plain.shape, bool)
        outside[20:32, 10:40] = False
        assert (shown[20:32, 10:40] == plain[outside].min()).all()
    assert before[0, 20, 10:40].tobytes() not in target.read_bytes()
    with sealed_container(target) as (inner, bound):
        assert open_bytes(inner.read(), KEY, associated=bound) == source.read_bytes()


def test_decoded_image_cannot_be_exchanged_or_changed(tmp_path: Path) -> None:
    one = seal(packaged("JPEG2000.dcm"), tmp_path / "one.dcm")
    other = seal(packaged("JPEG2000.dcm"), tmp_path / "other.dcm")
    (tmp_path / "swapped.dcm").write_bytes(joined(taken_apart(one)[0], taken_apart(other)[1]))
    data = bytearray(one.read_bytes())
    data[len(taken_apart(one)[0]) - 100] ^= 1
    (tmp_path / "changed.dcm").write_bytes(data)
    for name in ("swapped.dcm", "changed.dcm"):
        with pytest.raises(ContextMismatch):
            restored(tmp_path / name, tmp_path)


def test_words_of_a_big_endian_palette_are_turned(tmp_path: Path) -> None:
    plain = pydicom.dcmread(packaged("examples_palette.dcm"))
    words = np.arange(256, dtype="<u2")
    for colour in ("Red", "Green", "Blue"):
        plain[f"{colour}PaletteColorLookupTableData"].value = words.byteswap().tobytes()
    plain.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(tmp_path / "big.dcm", plain, little_endian=False, implicit_vr=False)
    target = seal(tmp_path / "big.dcm", tmp_path / "sealed.dcm")
    assert pydicom.dcmread(target).RedPaletteColorLookupTableData == words.tobytes()
    assert restored(target, tmp_path) == (tmp_path / "big.dcm").read_bytes()


def test_large_image_of_many_frames_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 64 MiB, of which the limit is lowered here, frames are read one by one, twice."""
    source = many_frames(tmp_path / "frames.dcm", 40)
    monkeypatch.setattr("cipher.dicom.region_sealing.WHOLE", 0)
    most, frame_bytes = 0, 64 * 64 * 2
    read = StoredFrames.read

    def watch(frames: StoredFrames, handle: BinaryIO) -> Iterator[Frame]:
        nonlocal most
        assert not isinstance(handle, io.BytesIO)
        for frame in read(frames, handle):
            most = max(most, frame.nbytes)
            yield frame

    monkeypatch.setattr(StoredFrames, "read", watch)
    target = seal(source, tmp_path / "sealed.dcm", Region((Box(3, 5, 7, 9),)))
    assert most == frame_bytes
    assert restored(target, tmp_path) == source.read_bytes()
    assert describe_path(target).container.shape == (40, 9, 7)


def test_large_file_that_changes_between_both_readings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = many_frames(tmp_path / "frames.dcm", 4)
    monkeypatch.setattr("cipher.dicom.region_sealing.WHOLE", 0)
    readings, read = 0, StoredFrames.read

    def change(frames: StoredFrames, handle: BinaryIO) -> Iterator[Frame]:
        nonlocal readings
        readings += 1
        if readings == 2:
            data = bytearray(source.read_bytes())
            data[frames.span.offset + 3 * 64 * 64 * 2 + 64 * 2 * 5 + 6] ^= 1  # the box's first pixel in the last frame
            source.write_bytes(data)
        return read(frames, handle)

    monkeypatch.setattr(StoredFrames, "read", change)
    with pytest.raises(SourceChanged):
        seal(source, tmp_path / "sealed.dcm", Region((Box(3, 5, 7, 9),)))
    assert not (tmp_path / "sealed.dcm").exists()


def many_frames(path: Path, count: int) -> Path:
    plain = pydicom.dcmread(packaged("MR_small.dcm"))
    plain.NumberOfFrames = count
    plain.PixelData = np.random.default_rng(1).integers(0, 4096, (count, 64, 64)).astype("<i2").tobytes()
    plain.save_as(path)
    return path


def test_planar_colour_is_blanked_in_every_plane(tmp_path: Path) -> None:
    plain = pydicom.dcmread(packaged("examples_rgb_color.dcm"))
    pixels = plain.pixel_array
    plain.PlanarConfiguration = 1
    plain.PixelData = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).tobytes()
    plain.save_as(tmp_path / "planar.dcm")
    target = seal(tmp_path / "planar.dcm", tmp_path / "sealed.dcm")
    assert not pydicom.dcmread(target).pixel_array[30:40, 20:60].any()
    assert restored(target, tmp_path) == (tmp_path / "planar.dcm").read_bytes()


def test_only_masked_pixels_are_blanked(tmp_path: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[50:60, 50:60] = np.eye(10)
    np.save(tmp_path / "mask.npy", mask)
    target = seal(CT, tmp_path / "sealed.dcm", Region(mask=load_mask(tmp_path / "mask.npy")))
    changed = pydicom.dcmread(target).pixel_array != pydicom.dcmread(CT).pixel_array
    assert not changed[mask == 0].any()
    assert changed.sum() >= 9
    assert restored(target, tmp_path) == CT.read_bytes()


def test_icon_and_private_attributes_are_left_out_and_come_back(tmp_path: Path) -> None:
    plain = pydicom.dcmread(CT)
    icon = pydicom.Dataset()
    icon.PixelData, icon.Rows, icon.Columns, icon.BitsAllocated = b"THUMBNAIL OF A FACE ", 4, 5, 8
    plain.IconImageSequence = [icon]
    outer = pydicom.Dataset()
    outer.IconImageSequence = [icon]
    plain.ReferencedImageSequence = [outer]
    plain.private_block(0x0009, "VENDOR", create=True).add_new(1, "OB", b"THUMBNAIL OF A FACE ")
    plain.save_as(tmp_path / "icon.dcm")
    target = seal(tmp_path / "icon.dcm", tmp_path / "sealed.dcm")
    assert b"THUMBNAIL" not in target.read_bytes()
    assert restored(target, tmp_path) == (tmp_path / "icon.dcm").read_bytes()


def test_description_states_form_and_region_without_a_key(sealed: Path) -> None:
    said = describe_path(sealed)
    assert (said.form, said.container.kind, said.container.shape) == ("region", Kind.REGION, (10, 40))
    assert said.container.labels["region"] == "20,30,40,10"
    assert said.container.bound


def test_rekeyed_region_opens_with_the_new_key_alone(sealed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(sealed.read_bytes())
    rekey_path(copy, KEY, OTHER)
    assert restored(copy, tmp_path, OTHER) == CT.read_bytes()
    with pytest.raises(WrongKey):
        restored(copy, tmp_path)


# The format


def small_image() -> bytes:
    """An Explicit VR Little Endian image of 12 x 10 bytes, with bytes behind its pixels."""
    plain = pydicom.dcmread(CT)
    kept = pydicom.Dataset()
    for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "PatientName"):
        setattr(kept, name, getattr(plain, name))
    kept.Rows, kept.Columns, kept.SamplesPerPixel, kept.PhotometricInterpretation = 10, 12, 1, "MONOCHROME2"
    kept.BitsAllocated, kept.BitsStored, kept.HighBit, kept.PixelRepresentation = 8, 8, 7, 0
    kept.PixelData = bytes(range(100, 220))
    kept.file_meta = pydicom.dataset.FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    target = io.BytesIO()
    pydicom.dcmwrite(target, kept, enforce_file_format=True)
    return target.getvalue() + b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0TAIL"


def make_vector(folder: Path) -> dict[str, str]:
    """The frozen object: `python -m tests.cipher.dicom.test_region` writes it anew."""
    (folder / "small.dcm").write_bytes(small_image())
    seal(folder / "small.dcm", folder / "frozen.dcm", Region((Box(3, 2, 5, 4),)))
    return {
        "vault_key": KEY.secret.hex(),
        "original": small_image().hex(),
        "object": (folder / "frozen.dcm").read_bytes().hex(),
    }


def test_frozen_object_opens(tmp_path: Path) -> None:
    frozen = json.loads(VECTOR.read_text())
    (tmp_path / "frozen.dcm").write_bytes(bytes.fromhex(frozen["object"]))
    assert restored(tmp_path / "frozen.dcm", tmp_path).hex() == frozen["original"]


def test_frozen_object_is_as_the_document_says() -> None:
    """A second reader, written from docs/dicom.md and docs/format-container.md alone."""
    frozen = json.loads(VECTOR.read_text())
    values, visible, container = by_the_document.take_region_apart(bytes.fromhex(frozen["object"]))

    def string(tag: int) -> str:
        return values.get(tag, b"").rstrip(b"\0 ").decode()

    def word(tag: int) -> str:
        return str(int.from_bytes(values[tag], "little"))

    bound = {
        "SOPClassUID": string(0x00080016), "SOPInstanceUID": string(0x00080018), "StudyInstanceUID": string(0x0020000D),
        "SeriesInstanceUID": string(0x0020000E), "NumberOfFrames": "", "Rows": word(0x00280010),
        "Columns": word(0x00280011), "SamplesPerPixel": word(0x00280002), "PlanarConfiguration": "",
        "PhotometricInterpretation": string(0x00280004), "BitsAllocated": word(0x00280100),
        "BitsStored": word(0x00280101), "HighBit": word(0x00280102), "PixelRepresentation": word(0x00280103),
        "format": "HE_INFER REGION 1", "pixels": hashlib.sha256(visible[:120]).hexdigest(),
    }  # fmt: skip
    associated = json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()
    assert container[144 + 128 * 4 + 40 :][:32] == hashlib.sha256(associated).digest()
    payload, _, labels = read_by_the_document(container, bytes.fromhex(frozen["vault_key"]))
    x, y, width, height = map(int, labels["region"].split(","))
    original = bytes.fromhex(frozen["original"])
    begin = original.index(bytes(range(100, 220)))
    pixels = np.frombuffer(visible[:120], np.uint8).reshape(10, 12).copy()
    end = begin + width * height
    pixels[y : y + height, x : x + width] = np.frombuffer(payload[begin:end], np.uint8).reshape(height, width)
    assert payload[:begin] + pixels.tobytes() + payload[end:] == original


# Attacks


def taken_apart(path: Path) -> tuple[bytes, bytes]:
    """What stands before the private element, and the element's value."""
    data = path.read_bytes()
    at = data.index(struct.pack("<HH2sH", 0x7FE1, 0x0010, b"LO", 18)) + 26
    return data[:at], data[at + 12 :]


def joined(before: bytes, container: bytes) -> bytes:
    return before + struct.pack("<HH2sHI", 0x7FE1, 0x1000, b"OB", 0, len(container)) + container


def test_regions_of_two_images_cannot_be_exchanged(sealed: Path, tmp_path: Path) -> None:
    second = seal(packaged("CT_small.dcm"), tmp_path / "second.dcm")
    (tmp_path / "swapped.dcm").write_bytes(joined(taken_apart(second)[0], taken_apart(sealed)[1]))
    with pytest.raises(ContextMismatch):
        restored(tmp_path / "swapped.dcm", tmp_path)
    assert not (tmp_path / "back").exists()


def test_changed_visible_pixel_or_bound_attribute_is_refused(sealed: Path, tmp_path: Path) -> None:
    data = bytearray(sealed.read_bytes())
    data[len(taken_apart(sealed)[0]) - 100] ^= 1
    (tmp_path / "pixel.dcm").write_bytes(data)
    with pytest.raises(ContextMismatch):
        restored(tmp_path / "pixel.dcm", tmp_path)
    columns = bytearray(sealed.read_bytes())
    columns[columns.index(b"\x28\x00\x10\x00US") + 8] = 64
    columns[columns.index(b"\x28\x00\x11\x00US") + 8 : columns.index(b"\x28\x00\x11\x00US") + 10] = b"\x00\x01"
    (tmp_path / "sides.dcm").write_bytes(columns)
    with pytest.raises(ContextMismatch):
        restored(tmp_path / "sides.dcm", tmp_path)


def test_region_cannot_be_moved(sealed: Path, tmp_path: Path) -> None:
    data = sealed.read_bytes()
    assert data.count(b'"20,30,40,10"') == 1
    (tmp_path / "moved.dcm").write_bytes(data.replace(b'"20,30,40,10"', b'"21,30,40,10"'))
    with pytest.raises(Damaged):
        restored(tmp_path / "moved.dcm", tmp_path)


def test_every_cut_and_every_added_byte_is_refused(sealed: Path, tmp_path: Path) -> None:
    data = sealed.read_bytes()
    container = len(taken_apart(sealed)[1])
    for size in (*range(len(data) - container - 60, len(data), 97), len(data) - 1):
        (tmp_path / "cut.dcm").write_bytes(data[:size])
        with pytest.raises(CipherError):
            restored(tmp_path / "cut.dcm", tmp_path)
    (tmp_path / "cut.dcm").write_bytes(data + b"\0\0")
    with pytest.raises(Damaged):
        restored(tmp_path / "cut.dcm", tmp_path)


def test_container_of_a_region_alone_is_no_file(sealed: Path) -> None:
    with sealed_container(sealed) as (inner, bound):
        data = inner.read()
    with pytest.raises(UnsupportedFormat, match="region"):
        open_bytes(data, KEY, associated=bound)
    with pytest.raises(BadSpan, match="region"):
        Opening(io.BytesIO(data), KEY, associated=bound).frames(0, 1)


# Refusals


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("1,2,3", "x,y,width,height"), ("a,b,c,d", "x,y,width"), ("", "x,y,width"), ("1,2,3,4,5", "x,y,width"),
        ("1.5,2,3,4", "x,y,width"), ("1, 2, 3, 4", "x,y,width"), ("1_0,2,3,4", "x,y,width"),
        ("\u0661,2,3,4", "x,y,width"), ("9" * 5000 + ",0,1,1", "x,y,width"),
        ("0,0,0,4", "empty"), ("0,0,4,0", "empty"), ("0,0,-4,4", "empty"), ("-1,0,2,2", "empty"),
    ],
)  # fmt: skip
def test_region_in_odd_words_is_refused(said: str, message: str) -> None:
    with pytest.raises(BadSpan, match=message):
        Box.parse(said)


def test_region_outside_or_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    for region in (
        Region((Box(100, 0, 29, 1),)),
        Region(mask=np.ones((4, 4), bool)),
        Region(mask=np.zeros((128, 128), bool)),
    ):
        with pytest.raises(BadSpan):
            seal(CT, tmp_path / "x.dcm", region)
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(UnsupportedImage, match="no mask"):
        load_mask(tmp_path / "mask.png")


def test_numpy_file_that_is_no_mask_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.npy"
    for save in (
        lambda: np.savez(path.with_suffix(".npz"), mask=np.ones((128, 128))),
        lambda: np.save(path, np.ones((1, 128, 128))),
        lambda: np.save(path, np.full((128, 128), "x")),
        lambda: np.save(path, np.full((128, 128), None)),
        lambda: np.save(path, np.zeros((128, 128), [("x", "u1")])),
        lambda: path.write_bytes(b""),
    ):
        save()
        if path.with_suffix(".npz").exists():
            path.with_suffix(".npz").replace(path)
        with pytest.raises(UnsupportedImage, match="no mask"):
            load_mask(path)


def test_overlapping_boxes_are_sealed_once(tmp_path: Path) -> None:
    region = Region((Box(0, 0, 60, 12), Box(30, 6, 60, 12), Box(30, 6, 60, 12)))
    seal(CT, tmp_path / "sealed.dcm", region)
    shown, before = (pydicom.dcmread(path).pixel_array for path in (tmp_path / "sealed.dcm", CT))
    blanked = np.zeros((128, 128), bool)
    blanked[:12, :60] = blanked[6:18, 30:90] = True
    assert len(np.unique(shown[blanked])) == 1
    np.testing.assert_array_equal(shown[~blanked], before[~blanked])
    open_path(tmp_path / "sealed.dcm", tmp_path / "back.dcm", KEY)
    assert (tmp_path / "back.dcm").read_bytes() == CT.read_bytes()


def test_images_that_cannot_be_shown_are_refused(tmp_path: Path) -> None:
    plain = pydicom.dcmread(CT)
    plain.FloatPixelData = np.zeros((128, 128), "<f4").tobytes()
    plain.BitsAllocated = 32
    del plain.PixelData
    plain.save_as(tmp_path / "float.dcm")
    broken = bytearray(packaged("JPEG2000.dcm").read_bytes())
    at = broken.index(b"\xff\x4f\xff\x51")
    broken[at : at + 40] = bytes(40)
    (tmp_path / "broken.dcm").write_bytes(broken)
    (tmp_path / "text.dcm").write_text("no image")
    for source, message in (
        (tmp_path / "float.dcm", "floating point"),
        (tmp_path / "broken.dcm", "cannot be decoded here"),
        (packaged("image_dfl.dcm"), "deflated"),
        (packaged("rtplan.dcm"), "no pixel data"),
        (packaged("MR_truncated.dcm"), "does not fit"),
        (tmp_path / "text.dcm", "not a DICOM file"),
    ):
        with pytest.raises(UnsupportedFormat, match=message) as refused:
            seal(source, tmp_path / "x.dcm")
        assert "ontainer form" in str(refused.value)
        assert not (tmp_path / "x.dcm").exists()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        VECTOR.write_text(json.dumps(make_vector(Path(folder)), indent=1) + "\n")
    sys.exit(0)
