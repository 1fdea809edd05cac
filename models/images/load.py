"""Display values of an image file (DICOM, PNG, JPEG, BMP or TIFF) for feature extraction.

The values are those that a viewer shows: rescaled, windowed, MONOCHROME1 turned, palettes looked up; float32 from 0
(black) to 1 (white). The stored pixels are not kept: the image cipher stores images that must come back bit for bit.
A file's kind is found from its content, not from its name.
"""

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import DamagedImage, ImageError, NotAnImage
from models.images import raster

if TYPE_CHECKING:
    from models.images.dicom import Identifiers

Display = NDArray[np.float32]
Frames = Literal["middle", "all"] | int
"""Which frames of a multi-frame image are taken: the middle one, all, or the one of this number, from 0."""

KINDS = "DICOM, PNG, JPEG, BMP or TIFF"
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
_DICOM_NAMES = (".dcm", ".dicom", ".ima", ".dic")
MAX_PIXELS = 1 << 28
"""Images with more pixels are refused before they are unpacked."""


@dataclass(frozen=True, eq=False)
class FrameImage:
    """Display values of one frame, and its description in the file."""

    pixels: Display
    """(H, W) for grey, (H, W, 3) for colour; float32 in [0, 1]."""
    frame: int = 0
    """The frame's number, from 0."""
    frames: int = 1
    """Number of frames in the file."""
    remarks: tuple[str, ...] = ()
    """Remarks on a frame that probably shows no patient: a mask, a segmentation, a black frame."""
    identifiers: "Identifiers | None" = field(default=None)
    """None where the file is not DICOM."""
    kind: Mapping[str, str] = field(default_factory=dict)
    """Description in the DICOM header: `modality`, `body_part`, `view`, `photometric`; without those that it lacks."""


def sniff(path: Path) -> Literal["dicom", "raster"] | None:
    """A file's kind by its first bytes; None where it is no image that is read here.

    Raises:
        NotAnImage: no such file, a folder, a pipe or another special file, or one that cannot be opened.
    """
    from models.images.dicom import looks_like

    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            link = " Links to folders are not followed: give the folder itself." if path.is_symlink() else ""
            raise NotAnImage(f"{path} is a folder; an image file was expected.{link}")
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
            raise NotAnImage(f"{path} is a pipe, a device or another special file; an image file was expected.")
        with path.open("rb") as file:
            head = file.read(136)
    except (FileNotFoundError, ValueError):  # no file's name holds the null byte of the second
        raise NotAnImage(f"There is no file {path}.") from None
    except OSError as error:
        raise NotAnImage(f"{path} cannot be opened: {error.strerror}.") from error
    if looks_like(head):
        return "dicom"
    return "raster" if head.startswith(_SIGNATURES) else None


def load_image(path: str | Path, *, frame: int | None = None) -> Display:
    """Read one image, or one frame of a multi-frame image (the middle one unless `frame` says otherwise).

    Returns:
        (H, W) for grey, (H, W, 3) for colour; float32 in [0, 1].

    Raises:
        NotAnImage: no such file, another kind of file, or a DICOM object without pixels.
        DamagedImage: the pixels cannot be decoded.
        ImageError: `frame` is out of range.
    """
    return next(load_frames(path, "middle" if frame is None else frame)).pixels


def load_frames(path: str | Path, frames: Frames = "middle") -> Iterator[FrameImage]:
    """Read frames of one image file, one at a time.

    Raises:
        NotAnImage, DamagedImage, ImageError: as `load_image`; before the first frame or at the one that is damaged.
    """
    path = Path(path)
    if _kind(path) == "dicom":
        yield from _load_dicom(path, frames)
    else:
        yield from _load_raster(path, frames)


def measure(path: Path) -> tuple[int, int]:
    """Rows and columns as the header says, without decoding.

    Raises:
        NotAnImage, DamagedImage: as `load_image`.
    """
    if _kind(path) == "dicom":
        from models.images import dicom

        header = dicom.read_header(path)
        return int(dicom.number(header, "Rows", 0)), int(dicom.number(header, "Columns", 0))
    with raster.open_raster(path) as image:
        return image.height, image.width


def to_grey(image: NDArray[Any]) -> NDArray[np.float32]:
    """Luminance of the last axis of three channels (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B); grey passes through."""
    if image.ndim == 3 and image.shape[2] == 3:
        return (image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).astype(np.float32)
    return image.astype(np.float32)


def _kind(path: Path) -> Literal["dicom", "raster"]:
    kind = sniff(path)
    if kind is not None:
        return kind
    if path.stat().st_size == 0:
        raise NotAnImage(f"{path} is empty. Expected a {KINDS} image.")
    if path.suffix.lower() in _DICOM_NAMES:  # the DICOM reader raises the error
        return "dicom"
    raise NotAnImage(f"{path} is not an image that can be read here. Expected {KINDS}.")


def _choose(path: Path, frames: Frames, count: int) -> range:
    if frames == "all":
        return range(count)
    index = count // 2 if frames == "middle" else int(frames)
    if not 0 <= index < count:
        raise ImageError(f"{path} holds {count} frame(s), numbered from 0; frame {index} was asked for.")
    return range(index, index + 1)


def _load_dicom(path: Path, frames: Frames) -> Iterator[FrameImage]:
    from models.images import dicom, display

    dataset = dicom.read(path)
    try:
        count = dicom.count_frames(dataset)
        rows, columns = dicom.number(dataset, "Rows", 0), dicom.number(dataset, "Columns", 0)
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from error
    if not 0 < rows * columns <= MAX_PIXELS:
        raise DamagedImage(
            f"{path}: (0028,0010) Rows and (0028,0011) Columns are {rows:g} x {columns:g}. Expected 1 to {MAX_PIXELS} "
            "pixels."
        )
    identifiers = dicom.identify(dataset)
    for index in _choose(path, frames, count):
        pixels = display.show(dataset, path, index)
        yield FrameImage(
            pixels, index, count, display.remark(dataset, pixels), identifiers, dicom.describe_kind(dataset)
        )


def _load_raster(path: Path, frames: Frames) -> Iterator[FrameImage]:
    with raster.open_raster(path) as opened:
        pages = raster.list_pictures(opened, path)
        for index in _choose(path, frames, len(pages)):
            yield FrameImage(raster.show(opened, path, pages[index]), index, len(pages))
