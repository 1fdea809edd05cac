"""PNG, JPEG, BMP and TIFF files: kinds of numbers, grey scales, orientations and pages."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from models.errors import DamagedImage
from models.images.load import load_frames, load_image

EIGHT = np.arange(256, dtype=np.uint8).reshape(16, 16)
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
UNSIGNED, SIGNED, FRACTIONS = 1, 2, 3


def tiff(path: Path, data: bytes, photometric: int, bits: int, kind: int = UNSIGNED, order: str = "<") -> Path:
    """A grey TIFF file of 16 x 16 pixels, uncompressed, whose tags say what Pillow would not write."""
    tags = [(256, 16), (257, 16), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 16)]
    tags += [(279, len(data)), (339, kind)]
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    start = struct.pack(f"{order}I", 8 + len(data))
    path.write_bytes((b"II*\0" if order == "<" else b"MM\0*") + start + data + directory)
    return path


def pack_twelve_bits(values: np.ndarray[Any, Any]) -> bytes:
    pairs = values.reshape(-1, 2).tolist()
    return b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)


GREYS = {
    "8 bits": (EIGHT.tobytes(), 8, UNSIGNED),
    "16 bits": ((EIGHT * np.uint16(257)).astype("<u2").tobytes(), 16, UNSIGNED),
    "fractions": ((EIGHT / 255).astype("<f4").tobytes(), 32, FRACTIONS),
}


@pytest.mark.parametrize("grey", GREYS)
def test_white_is_zero_is_inverted_once(grey: str, tmp_path: Path) -> None:
    data, bits, kind = GREYS[grey]
    plain = load_image(tiff(tmp_path / "a.tif", data, BLACK_IS_ZERO, bits, kind))
    np.testing.assert_allclose(plain, EIGHT / 255, atol=1e-6)
    turned = load_image(tiff(tmp_path / "b.tif", data, WHITE_IS_ZERO, bits, kind))
    np.testing.assert_allclose(turned, 1 - EIGHT / 255, atol=1e-6)


def test_twelve_bits_reach_white(tmp_path: Path) -> None:
    values = np.arange(256).reshape(16, 16) * 16
    shown = load_image(tiff(tmp_path / "a.tif", pack_twelve_bits(values), BLACK_IS_ZERO, 12))
    np.testing.assert_allclose(shown, values / 4095, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "kind"), [("<i1", SIGNED), ("<i2", SIGNED), (">i2", SIGNED), ("<i4", SIGNED), ("<u4", UNSIGNED)]
)
def test_whole_numbers_without_a_white_are_refused(dtype: str, kind: int, tmp_path: Path) -> None:
    order = ">" if dtype[0] == ">" else "<"
    path = tiff(
        tmp_path / "a.tif", (EIGHT.astype(int) - 128).astype(dtype).tobytes(), 1, int(dtype[2]) * 8, kind, order
    )
    with pytest.raises(DamagedImage, match="nothing says which is black"):
        load_image(path)


def test_kind_of_pixels_that_is_not_read_is_not_called_damaged_alone(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", (EIGHT / 255).astype("<f8").tobytes(), BLACK_IS_ZERO, 64, FRACTIONS)
    with pytest.raises(DamagedImage, match="or its kind of pixels is not read here"):
        load_image(path)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_tiff_is_applied_once(orientation: int, compression: str, tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={274: orientation}, compression=compression)
    turned = [
        pixels, pixels[:, ::-1], pixels[::-1, ::-1], pixels[::-1],
        pixels.T, np.rot90(pixels, -1), pixels[::-1, ::-1].T, np.rot90(pixels),
    ]  # fmt: skip
    np.testing.assert_allclose(load_image(tmp_path / "a.tif"), turned[orientation - 1] / 255, atol=1e-6)


def test_thumbnail_page_is_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with TiffImagePlugin.AppendingTiffWriter(str(path), True) as pages:
        for image, subfile in ((EIGHT, 0), (EIGHT[:8, :8], 1)):
            Image.fromarray(image).save(pages, format="TIFF", tiffinfo={254: subfile})
            pages.newFrame()
    (frame,) = load_frames(path, "all")
    assert (frame.frame, frame.frames, frame.pixels.shape) == (0, 1, (16, 16))


def test_gain_map_after_a_jpeg_is_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(EIGHT).save(path, format="MPO", save_all=True, append_images=[Image.fromarray(EIGHT[:8, :8])])
    (frame,) = load_frames(path)
    assert (frame.frames, frame.pixels.shape) == (1, (16, 16))


def test_pages_of_different_depth_keep_their_own_white(tmp_path: Path) -> None:
    sixteen = Image.fromarray((EIGHT * np.uint16(257)).astype(np.uint16))
    Image.fromarray(EIGHT).save(tmp_path / "a.tif", save_all=True, append_images=[sixteen])
    for frame in load_frames(tmp_path / "a.tif", "all"):
        np.testing.assert_allclose(frame.pixels, EIGHT / 255, atol=1e-6)
