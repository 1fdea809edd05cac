"""Reading one image file as display values, and refusing files that are no image."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import DamagedImage, ImageError, NotAnImage
from models.images.display import window_values
from models.images.load import load_image, to_grey
from tests.models.kit import dicom, png, report

RAMP = (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 4).astype(np.uint16)


def test_eight_and_sixteen_bit_pictures_become_display_values(tmp_path: Path) -> None:
    eight, sixteen = (RAMP // 64).astype(np.uint8), RAMP
    np.testing.assert_allclose(load_image(png(tmp_path / "8.png", eight)), eight / np.float32(255))
    np.testing.assert_allclose(load_image(png(tmp_path / "16.png", sixteen)), sixteen / np.float32(65535), atol=1e-7)


def test_colour_has_three_channels_and_transparency_shows_black(tmp_path: Path) -> None:
    colour = np.zeros((20, 20, 4), np.uint8)
    colour[..., 0], colour[:10, :, 3] = 200, 255
    image = load_image(png(tmp_path / "c.png", colour))
    assert image.shape == (20, 20, 3)
    np.testing.assert_allclose(image[0, 0], [200 / 255, 0, 0], atol=1e-6)
    np.testing.assert_allclose(image[-1, -1], 0)
    assert to_grey(image).shape == (20, 20)


def test_window_is_applied_and_monochrome1_is_inverted(tmp_path: Path) -> None:
    plain = load_image(dicom(tmp_path / "w.dcm", RAMP, WindowCenter=8000, WindowWidth=4000))
    np.testing.assert_allclose(plain, window_values(RAMP.astype(float), 8000, 4000), atol=1e-6)
    turned = load_image(
        dicom(tmp_path / "1.dcm", RAMP, WindowCenter=8000, WindowWidth=4000, PhotometricInterpretation="MONOCHROME1")
    )
    np.testing.assert_allclose(turned, 1 - plain, atol=1e-6)


def test_window_functions_equal_those_of_the_standard() -> None:
    # PS3.3 C.11.2.1.2.1 gives c = 2048, w = 4096 for 0..4095, and 0.5, 1 as a step.
    values = np.array([0.0, 4095.0])
    np.testing.assert_allclose(window_values(values, 2048, 4096), [0, 1])
    np.testing.assert_allclose(window_values(np.array([0.0, 1.0]), 0.5, 1), [0, 1])
    np.testing.assert_allclose(window_values(np.array([0.0]), 0, 100, "SIGMOID"), [0.5])
    np.testing.assert_allclose(window_values(np.array([-50.0, 0.0, 50.0]), 0, 100, "LINEAR_EXACT"), [0, 0.5, 1])
    with pytest.raises(ImageError, match="VOI LUT Function"):
        window_values(values, 1, 1, "CUBIC")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("text.dcm", b"this is a text file", NotAnImage, "not a DICOM file, although it is named like one"),
        ("empty.png", b"", NotAnImage, "is empty"),
        ("text.png", b"text", NotAnImage, "not an image that can be read"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00", DamagedImage, "cut off or damaged"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", DamagedImage, "cut off or damaged"),
        ("bytes.dcm", bytes(128) + b"DICM" + b"\xff" * 40, NotAnImage, "DICOM"),
    ],
)
def test_file_without_image_gives_one_line(
    tmp_path: Path, name: str, content: bytes, error: type[ImageError], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        load_image(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_a_report_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnImage, match="There is no file"):
        load_image(tmp_path / "none.dcm")
    with pytest.raises(NotAnImage, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(NotAnImage, match="without pixels"):
        load_image(report(tmp_path / "r.dcm"))


def test_cut_off_pixels_and_absent_frames_are_refused(tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", RAMP)
    with pytest.raises(ImageError, match="frame 3 was asked for"):
        load_image(path, frame=3)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ImageError, match=r"cut off or damaged|cannot be parsed"):
        load_image(path)
