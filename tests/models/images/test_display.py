"""The display pipeline: against dcmtk's renderings of real files of every photometric kind, and case by case."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from models.errors import DamagedImage, ImageError
from models.images import decoding, dicom, display, lookup
from models.images.load import load_frames, load_image, measure, sniff

RAMP = np.arange(4096).reshape(64, 64)
SYNTAXES = {"implicit": ImplicitVRLittleEndian, "explicit": ExplicitVRLittleEndian, "big-endian": ExplicitVRBigEndian}


def write(path: Path, pixels: np.ndarray[Any, Any], syntax: str = "explicit", **attributes: Any) -> Path:
    """A DICOM image of 12 bits in 16 unless attributes say otherwise; 8-bit arrays are written as bytes."""
    order = ">" if syntax == "big-endian" else "<"
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    data.PatientID, data.Modality, data.PhotometricInterpretation = "P1", "OT", "MONOCHROME2"
    data.Rows, data.Columns, data.SamplesPerPixel = pixels.shape[0], pixels.shape[1], 1
    eight = pixels.dtype == np.uint8
    bits = 8 if eight else 12
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8 if eight else 16, bits, bits - 1, 0
    data.add_new(0x7FE00010, "OW", pixels.tobytes() if eight else pixels.astype(f"{order}u2").tobytes())
    for name, value in attributes.items():
        setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    data.save_as(path, enforce_file_format=True)
    return path


def table(descriptor: list[int], values: Any, vr: str) -> Sequence:
    item = Dataset()
    item.add_new(0x00283002, "US", descriptor)
    item.add_new(0x00283006, vr, values)
    return Sequence([item])


# dcmtk's renderings


@pytest.mark.parametrize("grid", ["rtdose_1frame", "rtdose_rle_1frame", "rtdose_expb_1frame"])
def test_the_same_grid_of_32_bits_in_any_byte_order_gives_the_same_picture(grid: str) -> None:
    # dcmtk renders the two in little endian as this project does and the one in big endian otherwise.
    picture, little = (load_image(Path(get_testdata_file(f"{name}.dcm"))) for name in (grid, "rtdose_1frame"))
    stored = pydicom.dcmread(get_testdata_file("rtdose_1frame.dcm")).pixel_array
    assert np.array_equal(picture, little)
    assert np.corrcoef(picture.ravel(), stored.ravel())[0, 1] > 0.999


def rendered(path: Path, folder: Path, options: list[str]) -> np.ndarray[Any, Any]:
    """A file as dcmtk renders it, from 0 (black) to 1 (white)."""
    # The same program with other decoders built in.
    tool = shutil.which("dcml2pnm" if "jpeg_ls" in path.name else "dcmj2pnm")
    if tool is None:
        pytest.skip("dcmj2pnm is not installed (Debian package dcmtk)")
    out = folder / "o.pnm"
    subprocess.run([tool, "+opw", "-O", *options, str(path), str(out)], check=True, capture_output=True)
    with Image.open(out) as image:
        values = np.asarray(image).astype(float)
        return values / (65535 if image.mode.startswith("I") else 255)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CT_small.dcm", ["+Wm"]),  # MONOCHROME2, 16 bits signed, rescale, no window
        ("MR_small.dcm", ["+Wi", "1"]),
        ("MR_small_bigendian.dcm", ["+Wi", "1"]),
        ("MR_small_expb.dcm", ["+Wi", "1"]),
        ("JPEG-lossy.dcm", ["+Wm"]),  # 12 bits, Se = 0
        ("JPGExtended.dcm", ["+Wm"]),
        ("JPEG-LL.dcm", ["+Wm"]),
        ("MR_small_RLE.dcm", ["+Wi", "1"]),
        ("MR_small_jpeg_ls_lossless.dcm", ["+Wi", "1"]),
        ("OBXXXX1A.dcm", []),  # PALETTE COLOR
        ("OBXXXX1A_expb.dcm", []),
        ("OBXXXX1A_rle.dcm", []),
        ("SC_rgb.dcm", []),
        ("SC_rgb_expb.dcm", []),
        ("SC_rgb_16bit.dcm", []),
        ("SC_ybr_full_uncompressed.dcm", []),
        ("SC_ybr_full_422_uncompressed.dcm", []),
        ("SC_rgb_jpeg_dcmtk.dcm", []),
        ("SC_rgb_jpeg_gdcm.dcm", []),
        ("examples_rgb_color.dcm", []),
        ("examples_ybr_color.dcm", []),
        ("examples_palette.dcm", []),
        ("vlut_04.dcm", ["+Wl", "1"]),
        ("mlut_18.dcm", ["+Wm"]),
        ("RG1_UNCR.dcm", ["+Wi", "1"]),  # MONOCHROME1
        ("RG1_UNCI.dcm", ["+Wi", "1"]),
    ],
)
def test_a_real_file_looks_as_dcmtk_shows_it(name: str, options: list[str], tmp_path: Path) -> None:
    found = get_testdata_file(name, download=False)
    if found is None:
        pytest.skip(f"{name} is not among the installed test files")
    path = Path(str(found))
    frames = dicom.count_frames(dicom.read(path))
    shown = load_image(path)
    reference = rendered(path, tmp_path, [*options, "--frame", str(frames // 2 + 1)])
    assert shown.shape == reference.shape
    # One grey level of eight bits: chroma is resampled and rounded differently by every decoder.
    assert float(np.abs(shown - reference).max()) < 0.02


# Lookup tables


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_a_table_is_read_in_every_encoding(syntax: str, sequence: str, vr: str, tmp_path: Path) -> None:
    entries = np.arange(65535, -1, -16)
    order = ">" if syntax == "big-endian" else "<"
    data = entries.tolist() if vr == "US" else entries.astype(f"{order}u2").tobytes()
    path = write(tmp_path / "a.dcm", RAMP, syntax, **{sequence: table([4096, 0, 16], data, vr)})
    expected = entries / 65535
    if sequence == "ModalityLUTSequence":
        expected = (entries - entries.min()) / np.ptp(entries)
    np.testing.assert_allclose(load_image(path).reshape(-1), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("descriptor", "entries", "expected"),
    [
        ([4096, 0, 8], [i >> 4 for i in range(4096)], (RAMP >> 4) / 255),
        ([256, 1000, 8], list(range(256)), np.clip(RAMP - 1000, 0, 255) / 255),
        ([4096, 0, 12], list(range(4096)), RAMP / 4095),
        ([4096, 0, 16], list(range(4096)), RAMP / 65535),
        ([4096, 0, 10], list(range(4096)), RAMP / 4095),  # more bits than the descriptor states
        ([2, 2048, 16], [0, 65535], (RAMP > 2048).astype(float)),
    ],
)
def test_descriptors_are_followed(descriptor: list[int], entries: list[int], expected: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP, VOILUTSequence=table(descriptor, entries, "US"))
    np.testing.assert_allclose(load_image(path), expected, atol=1e-6)


def test_a_table_for_negative_values_begins_below_zero(tmp_path: Path) -> None:
    values = list(range(4096))
    path = write(
        tmp_path / "a.dcm",
        RAMP,
        RescaleSlope="1",
        RescaleIntercept="-1024",
        VOILUTSequence=table([4096, 65536 - 1024, 12], values, "US"),
    )
    np.testing.assert_allclose(load_image(path), RAMP / 4095, atol=1e-6)


def test_an_empty_item_is_no_table(tmp_path: Path) -> None:
    for sequence in ("VOILUTSequence", "ModalityLUTSequence"):
        plain = load_image(write(tmp_path / "a.dcm", RAMP))
        with_item = load_image(write(tmp_path / "b.dcm", RAMP, **{sequence: Sequence([Dataset()])}))
        np.testing.assert_array_equal(with_item, plain)


def test_incomplete_table_is_refused_by_its_tag(tmp_path: Path) -> None:
    lonely = Dataset()
    lonely.add_new(0x00283002, "US", [4096, 0, 16])
    short = table([4096, 0, 16], [1, 2, 3], "US")
    for item, tag in ((Sequence([lonely]), r"\(0028,3006\)"), (short, "3 entries; .*announces 4096")):
        path = write(tmp_path / "a.dcm", RAMP, VOILUTSequence=item)
        with pytest.raises(DamagedImage, match=tag):
            load_image(path)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", ["16 bits", "8 bits", "8 bits in 16", "16 bits with 8-bit values"])
def test_a_palette_is_read_in_every_encoding(syntax: str, kind: str, tmp_path: Path) -> None:
    order = ">" if syntax == "big-endian" else "<"
    entries = np.arange(256)
    bits = 8 if kind.startswith("8") else 16
    if kind == "16 bits":
        data = (entries * 257).astype(f"{order}u2").tobytes()
    elif kind == "8 bits":
        packed = entries.astype(np.uint8).reshape(-1, 2)
        data = (packed[:, ::-1] if order == ">" else packed).tobytes()
    else:
        data = entries.astype(f"{order}u2").tobytes()
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        palette[f"{colour}PaletteColorLookupTableData"] = data
    pixels = np.arange(256).reshape(16, 16)
    path = write(tmp_path / "a.dcm", pixels, syntax, **palette, BitsStored=8, HighBit=7)
    shown = load_image(path)
    assert shown.shape == (16, 16, 3)
    np.testing.assert_allclose(shown[..., 1], pixels / 255, atol=1e-6)


def test_a_palette_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(DamagedImage, match="Red Palette Color Lookup Table Descriptor is missing"):
        load_image(path)


# Rescale, window, presentation, padding


@pytest.mark.parametrize("slope", [{}, {"RescaleSlope": None}, {"RescaleSlope": "1"}])
def test_intercept_without_slope_is_applied(slope: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP, RescaleIntercept="-1024", WindowCenter="0", WindowWidth="400", **slope)
    np.testing.assert_allclose(load_image(path), np.clip((RAMP - 1024 + 0.5) / 399 + 0.5, 0, 1), atol=1e-6)


def test_slope_without_intercept_is_applied(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP, RescaleSlope="2", WindowCenter="4096", WindowWidth="8192")
    np.testing.assert_allclose(load_image(path), np.clip((2 * RAMP - 4095.5) / 8191 + 0.5, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape", "turned"),
    [
        ("MONOCHROME1", "", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "", False),
        ("MONOCHROME2", "IDENTITY", False),
    ],
)
def test_presentation_inverts_grey_once(kind: str, shape: str, turned: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP, PhotometricInterpretation=kind, PresentationLUTShape=shape)
    assert (load_image(path)[0, 0] == 1.0) == turned


@pytest.mark.parametrize("wobble", [0, 1, 3])
def test_padding_moved_by_compression_leaves_the_brightness(wobble: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    body = random.integers(-200, 1300, (64, 64))
    pad = np.zeros((64, 64), bool)
    pad[:, :16] = True
    body[pad] = -2000 + random.integers(-wobble, wobble + 1, pad.sum())
    signed = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "PixelPaddingValue": -2000}
    shown = load_image(write(tmp_path / "a.dcm", body.astype("<i2").view("<u2"), RescaleIntercept="-1024", **signed))
    np.testing.assert_allclose(shown[~pad], (body[~pad] - body[~pad].min()) / np.ptp(body[~pad]), atol=1e-6)
    assert not shown[pad].any()


def test_dark_pixels_beside_the_padding_value_are_no_padding(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64))
    shown = load_image(write(tmp_path / "a.dcm", pixels, PixelPaddingValue=0))
    low = pixels[pixels > 0].min()
    np.testing.assert_allclose(shown, np.clip((pixels - low) / (pixels.max() - low), 0, 1), atol=1e-6)


def write_fractions(
    path: Path, values: np.ndarray[Any, Any], padding: float, limit: float | None, double: bool
) -> Path:
    """An image of Float or Double Float Pixel Data with a padding value of its own."""
    path = write(path, RAMP)
    data = pydicom.dcmread(path)
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(data, name)
    data.BitsAllocated = 64 if double else 32
    kind = "DoubleFloat" if double else "Float"
    setattr(data, f"{kind}PixelData", values.astype("<f8" if double else "<f4").tobytes())
    setattr(data, f"{kind}PixelPaddingValue", padding)
    if limit is not None:
        setattr(data, f"{kind}PixelPaddingRangeLimit", limit)
    data.save_as(path)
    return path


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(
    ("padding", "limit", "stored"), [(-1e30, None, -1e30), (np.nan, None, np.nan), (-9.0, -5.0, -7)]
)
def test_padding_of_fractions_is_black_and_does_not_count(
    padding: float, limit: float | None, stored: float, double: bool, tmp_path: Path
) -> None:
    values = RAMP / 4095.0
    values[:, :16] = stored
    padding = padding if double else float(np.float32(padding))
    shown = load_image(write_fractions(tmp_path / "a.dcm", values, padding, limit, double))
    assert not shown[:, :16].any()
    np.testing.assert_allclose(shown[:, 16:], ((RAMP - 16) / 4079)[:, 16:], atol=1e-5)


@pytest.mark.parametrize(("syntax", "signed"), [("explicit", 0), ("explicit", 1), ("implicit", 0), ("big-endian", 0)])
def test_pixels_in_the_high_bits_are_shifted_down(syntax: str, signed: int, tmp_path: Path) -> None:
    window = {"WindowCenter": 2048 - 2048 * signed, "WindowWidth": 4096}
    stored = ((RAMP - 2048 * signed) << 4) & 0xFFFF | 5  # junk in the four unused bits
    path = write(tmp_path / "a.dcm", stored, syntax, HighBit=15, PixelRepresentation=signed, **window)
    np.testing.assert_allclose(load_image(path), RAMP / 4095, atol=1e-3)


def test_photometric_kind_in_small_letters_or_missing_is_read(tmp_path: Path) -> None:
    with dicom.quiet():
        path = write(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="monochrome1")
        assert load_image(path)[0, 0] == 1
        data = pydicom.dcmread(path)
        del data.PhotometricInterpretation
        data.save_as(path)
    assert load_image(path)[0, 0] == 0


@pytest.mark.parametrize("name", ["BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"])
def test_missing_attribute_is_named(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    delattr(data, name)
    data.save_as(path)
    with pytest.raises(DamagedImage, match=r"\(0028,0\w+\) \w+ .*is missing or empty"):
        load_image(path)


def test_pixels_beyond_the_announced_ones_get_a_remark(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP)
    assert next(load_frames(path)).remarks == ()
    data = pydicom.dcmread(path)
    data.Rows = 32
    data.save_as(path)
    assert "more pixels than its header announces" in next(load_frames(path)).remarks[0]


# Frames, kinds, refusals


def frames_file(path: Path) -> Path:
    frames = np.zeros((5, 32, 32), np.uint16)
    frames[2], frames[4] = np.arange(1024).reshape(32, 32), 7
    path = write(path, np.concatenate(list(frames)))
    dataset = pydicom.dcmread(path)
    dataset.Rows, dataset.NumberOfFrames = 32, 5
    dataset.save_as(path)
    return path


def test_chosen_frames_are_loaded_with_remarks(tmp_path: Path) -> None:
    path = frames_file(tmp_path / "a.dcm")
    (middle,) = load_frames(path)
    assert (middle.frame, middle.frames, middle.remarks) == (2, 5, ())
    assert [one.frame for one in load_frames(path, "all")] == [0, 1, 2, 3, 4]
    (first,) = load_frames(path, 0)
    assert first.remarks == ("The frame is black throughout.",)
    assert first.identifiers is not None
    assert first.identifiers.patient == "P1"
    with pytest.raises(ImageError, match="numbered from 0; frame 5"):
        next(load_frames(path, 5))
    assert measure(path) == (32, 32)


def test_masks_and_segmentations_get_a_remark(tmp_path: Path) -> None:
    bits = np.packbits(np.arange(1024) % 3 == 0, bitorder="little").reshape(8, 16)
    mask = write(tmp_path / "a.dcm", bits, Rows=32, Columns=32, BitsAllocated=1, BitsStored=1, HighBit=0)
    (image,) = load_frames(mask)
    assert sorted(set(image.pixels.flat)) == [0.0, 1.0]
    assert "one bit" in image.remarks[0]
    segmentation = write(tmp_path / "b.dcm", RAMP, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG")
    assert "segmentation" in next(load_frames(segmentation)).remarks[0]


@pytest.mark.parametrize("raw", [b"1A", b"1.5", b"  ", b"-3"])
def test_invalid_number_of_frames_gives_one_line(raw: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP, NumberOfFrames="11")
    content = path.read_bytes()
    at = content.index(b"\x28\x00\x08\x00IS")
    path.write_bytes(content[: at + 8] + raw.ljust(2)[:2] + content[at + 10 :])
    try:
        assert load_image(path).shape == (64, 64)
    except ImageError as error:
        assert "(0028,0008)" in str(error) or "transfer syntax" in str(error)  # noqa: PT017 - either is right


def test_refusals_name_the_transfer_syntax_or_the_tag(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DamagedImage, match=r"Explicit VR Little Endian|cannot be parsed"):
        load_image(path)
    with pytest.raises(DamagedImage, match=r"\(0028,0004\) Photometric Interpretation is 'HSV'"):
        load_image(write(tmp_path / "b.dcm", RAMP, PhotometricInterpretation="HSV"))
    with pytest.raises(DamagedImage, match=r"\(0028,0010\) Rows"):
        load_image(write(tmp_path / "c.dcm", RAMP, Rows=0))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("name", ["a.dcm", "a", "1.2.826.0.1.3680043.8.498.7", "IM1.IMA", "a.png"])
def test_a_file_without_preamble_or_suffix_is_found_by_its_content(syntax: str, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, RAMP, syntax)
    assert sniff(path) == "dicom"
    dataset = pydicom.dcmread(path)
    bare = Dataset(dataset)
    bare.save_as(path, implicit_vr=syntax == "implicit", little_endian=syntax != "big-endian")
    assert path.read_bytes()[128:132] != b"DICM"
    assert sniff(path) == "dicom"
    (image,) = load_frames(path)
    np.testing.assert_allclose(image.pixels, RAMP / 4095, atol=1e-6)
    assert image.identifiers is not None
    assert image.identifiers.patient == "P1"


def test_sequential_scan_that_ends_at_zero_is_corrected_and_others_are_unchanged() -> None:
    header = b"\xff\xd8\xff%b\x00\x11\x0c\x00\x10\x00\x10\x01\x01\x11\x00" + b"\x00" * 6
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00%b\x00data\xff\xd9"
    frame = header.replace(b"%b", b"\xc1") + scan.replace(b"%b", b"\x00")
    assert decoding.correct_scans(frame) == header.replace(b"%b", b"\xc1") + scan.replace(b"%b", b"\x3f")
    assert decoding.correct_scans(header.replace(b"%b", b"\xc1") + scan.replace(b"%b", b"\x3f")) is None
    assert decoding.correct_scans(header.replace(b"%b", b"\xc2") + scan.replace(b"%b", b"\x00")) is None  # progressive
    for cut in range(len(frame)):
        decoding.correct_scans(frame[:cut])


NUMBERS = st.one_of(st.none(), st.integers(-70000, 70000), st.floats(-1e9, 1e9).map(lambda x: f"{x:.6g}"[:16]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    syntax=st.sampled_from(sorted(SYNTAXES)),
    kind=st.sampled_from(["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "", "NONE"]),
    slope=NUMBERS,
    intercept=NUMBERS,
    centre=NUMBERS,
    width=NUMBERS,
    function=st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID", "sigmoid", "CUBIC"]),
    padding=st.one_of(st.none(), st.integers(0, 65535)),
    descriptor=st.one_of(st.none(), st.lists(st.integers(0, 65535), min_size=0, max_size=4)),
    entries=st.one_of(st.none(), st.lists(st.integers(0, 65535), max_size=300), st.binary(max_size=300)),
    stored=st.integers(0, 20),
    signed=st.integers(0, 1),
    count=st.one_of(st.none(), st.integers(-2, 3)),
)
def test_any_header_gives_an_image_or_one_line(tmp_path: Path, **drawn: Any) -> None:
    item = Dataset()
    if drawn["descriptor"] is not None:
        item.add_new(0x00283002, "US", drawn["descriptor"])
    if drawn["entries"] is not None:
        item.add_new(0x00283006, "OW" if isinstance(drawn["entries"], bytes) else "US", drawn["entries"])
    attributes = {
        "PhotometricInterpretation": drawn["kind"],
        "RescaleSlope": drawn["slope"],
        "RescaleIntercept": drawn["intercept"],
        "WindowCenter": drawn["centre"],
        "WindowWidth": drawn["width"],
        "VOILUTFunction": drawn["function"],
        "PixelPaddingValue": drawn["padding"],
        "BitsStored": drawn["stored"],
        "HighBit": max(drawn["stored"] - 1, 0),
        "PixelRepresentation": drawn["signed"],
        "NumberOfFrames": drawn["count"],
        "VOILUTSequence": Sequence([item]),
    }
    path = tmp_path / "a.dcm"
    with dicom.quiet():
        try:
            write(path, RAMP[:16, :16], drawn["syntax"], **attributes)
        except Exception:  # of any kind: a header that pydicom does not write is none to be read
            return
    try:
        image = load_image(path)
    except ImageError as error:
        assert str(path) in str(error) and "\n" not in str(error)  # noqa: PT017, PT018 - an image is as right
        return
    assert image.dtype == np.float32
    assert image.shape[:2] == (16, 16)
    assert 0 <= image.min() <= image.max() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(-300, 300), st.integers(8, 16), st.integers(-500, 500))
def test_a_lookup_clamps_at_both_ends(count: int, first: int, bits: int, value: int) -> None:
    entries = np.random.default_rng(count).integers(0, 2**bits, count)
    found = lookup.Table(first, entries, bits).look_up(np.array([value]))
    assert found[0] == entries[min(max(value - first, 0), count - 1)]


def test_the_display_is_black_to_white_for_real_windows() -> None:
    values = display.window_values(np.array([-1e9, 0.0, 1e9]), 0, 100, "SIGMOID")
    np.testing.assert_allclose(values, [0, 0.5, 1], atol=1e-12)
