"""One picture, stored in every lossless form that is read, has the same features in training, evaluation and use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from he_infer.client.images.reader import ImageReader
from models import datasets
from models.feature_model import FeatureModel
from models.images.load import load_image
from models.images.preprocessing import Preprocessing
from tests.models.kit import small_extractor

SIDE = 16
Pixels = NDArray[Any]


def _smooth(seed: int, shape: tuple[int, ...]) -> Pixels:
    """A picture of 8 bits that reaches 0 and 255, neither square nor of the network's size."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    values = np.sin(rows / (3 + seed)) + np.cos(columns / (5 + seed)) + rows * columns / 2000
    values = (values - values.min()) / np.ptp(values)
    grey = np.rint(255 * values).astype(np.uint8)
    return grey if len(shape) == 2 else np.stack([grey, grey[::-1], 255 - grey], axis=-1)


GREY, COLOUR = _smooth(0, (38, 50)), _smooth(1, (38, 50, 3))
OPAQUE = np.full(GREY.shape, 255, np.uint8)
TURNED = np.rot90(GREY)
"""Stored lying, with an orientation (6) that sets it upright."""


def _save(pixels: Pixels | Image.Image, **options: Any) -> Callable[[Path], None]:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    return lambda path: image.save(path, **options)


def _palette(pixels: Pixels) -> Image.Image:
    """The picture with a palette of greys in another order than its values."""
    image = Image.frombytes("P", pixels.shape[::-1], (255 - pixels).tobytes())
    image.putpalette([255 - value for value in range(256) for _ in range(3)])
    return image


def _oriented() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return exif.tobytes()


def _jpeg_lossless(pixels: Pixels) -> bytes:
    """Lossless JPEG of 8 or 16 bits (ITU-T T.81, process 14, first predictor): no installed package writes it."""
    samples = pixels.reshape(*pixels.shape[:2], -1).astype(int)
    precision, count = 8 * pixels.dtype.itemsize, samples.shape[-1]
    predicted = np.roll(samples, 1, axis=1)  # the left neighbour; in the first column the one above
    predicted[1:, 0], predicted[0, 0] = samples[:-1, 0], 1 << (precision - 1)
    words = []
    for difference in (samples - predicted).ravel().tolist():
        size = abs(difference).bit_length()  # its code is the number itself, in five bits
        extra = difference if difference > 0 else difference + (1 << size) - 1
        words.append(f"{size:05b}" + (f"{extra:0{size}b}" if size else ""))
    bits = "".join(words)
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")

    def segment(marker: int, content: bytes) -> bytes:
        return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content

    rows, columns = (side.to_bytes(2, "big") for side in samples.shape[:2])
    components = b"".join(bytes((number, 0x11, 0)) for number in range(1, count + 1))
    frame = segment(0xC3, bytes((precision,)) + rows + columns + bytes((count,)) + components)
    table = segment(0xC4, bytes((0, 0, 0, 0, 0, 17, *[0] * 11, *range(17))))
    tables = b"".join(bytes((number, 0)) for number in range(1, count + 1))
    return b"\xff\xd8" + frame + table + segment(0xDA, bytes((count,)) + tables + bytes((1, 0, 0))) + scan + b"\xff\xd9"


def _dicom(
    pixels: Pixels, syntax: str = ExplicitVRLittleEndian, *, compress: str | None = None, **elements: Any
) -> Callable[[Path], None]:
    """A DICOM object; `elements` replace or follow what the pixels' type and shape say."""

    def write(path: Path) -> None:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = syntax
        made = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        colour = pixels.ndim == 3 and pixels.shape[-1] == 3
        frames = pixels[None] if pixels.ndim == 2 or colour else pixels
        bits = 8 * pixels.dtype.itemsize
        made.Rows, made.Columns = frames.shape[1:3]
        made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
        if colour:
            made.PlanarConfiguration = 0
        if len(frames) > 1:
            made.NumberOfFrames = len(frames)
        made.BitsAllocated = made.BitsStored = bits
        made.HighBit, made.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
        for keyword, value in elements.items():
            setattr(made, keyword, value)
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        given = frames.transpose(0, 3, 1, 2) if made.get("PlanarConfiguration") == 1 else frames
        made.PixelData = np.ascontiguousarray(given).astype(pixels.dtype.newbyteorder(order)).tobytes()
        made["PixelData"].VR = "OB" if bits == 8 else "OW"
        if syntax == JPEGLosslessSV1:
            made.PixelData = encapsulate([_jpeg_lossless(frame) for frame in frames])
            made["PixelData"].VR = "OB"
        if compress is not None:
            made.compress(compress)
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        pydicom.dcmwrite(path, made, implicit_vr=implicit, little_endian=little, enforce_file_format=True)

    return write


def _ramp(values: Pixels) -> dict[str, Any]:
    """The tables of a palette of 8 bits in 16 that shows a stored value as another."""
    table = values.astype("<u2").tobytes()
    named = {f"{colour}PaletteColorLookupTable": table for colour in ("Red", "Green", "Blue")}
    return {
        **{f"{name}Descriptor": [256, 0, 16] for name in named},
        **{f"{name}Data": data for name, data in named.items()},
        "PhotometricInterpretation": "PALETTE COLOR",
    }


def _functional_groups(**transformation: Any) -> dict[str, Any]:
    """What an enhanced object states once for all frames."""
    group, macro, window = Dataset(), Dataset(), Dataset()
    macro.RescaleIntercept, macro.RescaleSlope, macro.RescaleType = -1000, 4, "HU"
    window.WindowCenter, window.WindowWidth = _window(4, -1000)
    group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [macro], [window]
    return {"SharedFunctionalGroupsSequence": [group], **transformation}


def _window(slope: int, intercept: int) -> tuple[float, float]:
    """Centre and width of the window that shows stored values 0 to 255 as black to white (PS3.3 C.11.2.1.2)."""
    return 255 * slope / 2 + intercept + 0.5, 255 * slope + 1


WINDOW = dict(zip(("WindowCenter", "WindowWidth"), _window(1, 0), strict=True))
RESCALED = dict(zip(("WindowCenter", "WindowWidth"), _window(2, -300), strict=True)) | {
    "RescaleSlope": 2,
    "RescaleIntercept": -300,
}
DEEP = GREY * np.uint16(257)
STACK = np.stack([GREY[::-1], 255 - GREY, GREY, GREY[:, ::-1], OPAQUE])

GREYS: dict[str, Callable[[Path], None]] = {
    "8 bits.png": _save(GREY),
    "16 bits.png": _save(DEEP),
    "grey and alpha.png": _save(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(OPAQUE)])),
    "in colour.png": _save(np.stack([GREY] * 3, axis=-1)),
    "in colour and alpha.png": _save(np.stack([GREY] * 3 + [OPAQUE], axis=-1)),
    "palette.png": _save(_palette(GREY)),
    "interlaced and optimised.png": _save(GREY, optimize=True),
    "lying.png": _save(TURNED, exif=_oriented()),
    "8 bits.bmp": _save(GREY),
    "in colour.bmp": _save(np.stack([GREY] * 3, axis=-1)),
    "8 bits.tif": _save(GREY),
    "lzw.tif": _save(GREY, compression="tiff_lzw"),
    "deflated.tif": _save(GREY, compression="tiff_adobe_deflate"),
    "packed.tif": _save(GREY, compression="packbits"),
    "16 bits.tif": _save(DEEP),
    "16 bits, lzw.tif": _save(DEEP, compression="tiff_lzw"),
    "fractions.tif": _save((GREY / 255).astype(np.float32)),
    "palette.tif": _save(_palette(GREY)),
    "in colour.tif": _save(np.stack([GREY] * 3, axis=-1), compression="tiff_lzw"),
    "lying.tif": _save(TURNED, tiffinfo={274: 6}),
    "pages.tif": _save(STACK[0], save_all=True, append_images=[Image.fromarray(page) for page in STACK[1:]]),
    "8 bits.dcm": _dicom(GREY),
    "implicit.dcm": _dicom(GREY, ImplicitVRLittleEndian),
    "deflated.dcm": _dicom(GREY, DeflatedExplicitVRLittleEndian),
    "big endian.dcm": _dicom(GREY.astype(np.uint16), ExplicitVRBigEndian, **WINDOW),
    "run lengths.dcm": _dicom(GREY, compress=RLELossless),
    "jpeg 2000.dcm": _dicom(GREY, compress=JPEG2000Lossless),
    "16 bits, jpeg 2000.dcm": _dicom(GREY.astype(np.uint16), compress=JPEG2000Lossless, **WINDOW),
    "jpeg-ls.dcm": _dicom(GREY, compress=JPEGLSLossless),
    "16 bits, jpeg-ls.dcm": _dicom(GREY.astype(np.uint16), compress=JPEGLSLossless, **WINDOW),
    "lossless jpeg.dcm": _dicom(GREY, JPEGLosslessSV1),
    "16 bits, lossless jpeg.dcm": _dicom(GREY.astype(np.uint16), JPEGLosslessSV1, **WINDOW),
    "signed, run lengths.dcm": _dicom(GREY.astype(np.int16), compress=RLELossless, **WINDOW),
    "12 bits.dcm": _dicom(GREY.astype(np.uint16), BitsStored=12, HighBit=11, **WINDOW),
    "16 bits, whole range.dcm": _dicom(DEEP),
    "slope and intercept.dcm": _dicom(GREY.astype(np.uint16), **RESCALED),
    "signed.dcm": _dicom(GREY.astype(np.int16) - 200, WindowCenter=128 - 200, WindowWidth=256),
    "inverted.dcm": _dicom(255 - GREY, PhotometricInterpretation="MONOCHROME1"),
    "inverted, windowed.dcm": _dicom((255 - GREY).astype(np.uint16), PhotometricInterpretation="MONOCHROME1", **WINDOW),
    "inverted by the presentation.dcm": _dicom(255 - GREY, PresentationLUTShape="INVERSE"),
    "palette.dcm": _dicom(255 - GREY, **_ramp(np.arange(255, -1, -1) * 257)),
    "in colour.dcm": _dicom(np.stack([GREY] * 3, axis=-1)),
    "frames.dcm": _dicom(STACK),
    "enhanced.dcm": _dicom(STACK.astype(np.uint16), **_functional_groups()),
}
COLOURS: dict[str, Callable[[Path], None]] = {
    "colour.png": _save(COLOUR),
    "colour and alpha.png": _save(np.concatenate([COLOUR, OPAQUE[..., None]], axis=-1)),
    "colour.bmp": _save(COLOUR),
    "colour.tif": _save(COLOUR),
    "lzw.tif": _save(COLOUR, compression="tiff_lzw"),
    "lying.png": _save(np.rot90(COLOUR), exif=_oriented()),
    "colour.dcm": _dicom(COLOUR),
    "planes.dcm": _dicom(COLOUR, PlanarConfiguration=1),
    "run lengths.dcm": _dicom(COLOUR, compress=RLELossless),
    "jpeg 2000.dcm": _dicom(COLOUR, compress=JPEG2000Lossless),
    "jpeg-ls.dcm": _dicom(COLOUR, compress=JPEGLSLossless),
    "lossless jpeg.dcm": _dicom(COLOUR, JPEGLosslessSV1),
    "16 bits.dcm": _dicom(COLOUR * np.uint16(257)),
}


def _model(channels: int) -> FeatureModel:
    return FeatureModel(
        Preprocessing(SIDE, channels, "dataset", (0.4,) * channels, (0.2,) * channels),
        small_extractor(size=SIDE, channels=channels),
        4.0,
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("forms", "picture"), [(GREYS, GREY), (COLOURS, COLOUR)], ids=["grey", "colour"])
def test_every_lossless_form_has_equal_features_in_training_evaluation_and_use(
    forms: dict[str, Callable[[Path], None]], picture: Pixels, channels: int, tmp_path: Path
) -> None:
    model = _model(channels)
    wanted = model.features([picture])[0]
    assert np.abs(wanted - model.features([picture[::-1]])[0]).max() > 0.1  # another picture has others
    for part in ("train", "val", "test"):
        for folder in ("own", "other"):
            (tmp_path / "set" / part / folder).mkdir(parents=True)
        for name, write in forms.items():
            write(tmp_path / "set" / part / "own" / name)
        _save(picture[::-1])(tmp_path / "set" / part / "other" / "other.png")
    paths = sorted((tmp_path / "set" / "test" / "own").iterdir())
    assert len(paths) == len(forms)

    used = {}
    with ImageReader(1) as reader:
        for path in paths:
            (image,) = reader.read(path)
            assert image.pixels is not None, image.refusal
            used[path.name] = model.features([image.pixels])[0]
    errors = {name: float(np.abs(found - wanted).max()) for name, found in used.items()}
    assert not {name: error for name, error in errors.items() if error > 1e-5}

    dataset = datasets.load(tmp_path / "set", size=SIDE)
    assert not [note for note in dataset.notes if "left out" in note], dataset.notes
    for part, split in dataset.splits():
        found = model.features(split.images)
        assert len(found) == len(forms) + 1
        for path, row in zip(dataset.sources[part], found, strict=True):
            if path.parent.name == "own":
                # Sets hold pixels in steps of 1/65535, which this network's features show as up to 3e-4 of +-4.
                assert np.abs(row - used[path.name]).max() < 1e-3, (part, path.name)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int32])
def test_arrays_of_every_type_have_the_features_of_the_picture(dtype: Any, tmp_path: Path) -> None:
    square = GREY[:38, 6:44]
    white = {np.uint16: 257, np.float32: 1 / 255, np.float64: 1 / 255}.get(dtype, 1)
    images = np.stack([square, square[::-1], square.T] * 4)
    splits = {f"{part}_images": (images.astype(float) * white).astype(dtype) for part in ("train", "val", "test")}
    labels = {f"{part}_labels": np.arange(12) % 2 for part in ("train", "val", "test")}
    np.savez(tmp_path / "own.npz", **splits, **labels)
    Image.fromarray(np.ascontiguousarray(square)).save(tmp_path / "one.png")
    model = _model(1)
    wanted = model.features([load_image(tmp_path / "one.png")])[0]
    found = model.features(datasets.load(tmp_path / "own.npz").test.images)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_volumes_are_refused_by_name(tmp_path: Path) -> None:
    """NIfTI is not read: neither as a data set nor as an image."""
    from models.errors import BadLayout, NotAnImage

    path = tmp_path / "scan.nii"
    path.write_bytes(b"\x5c\x01\x00\x00" + bytes(344) + b"n+1\0")
    with pytest.raises(NotAnImage, match=r"scan\.nii is not an image that can be read here"):
        load_image(path)
    with pytest.raises(BadLayout, match=r"scan\.nii cannot be read as an \.npz data set"):
        datasets.load(path)
