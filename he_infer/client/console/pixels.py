"""Pixels for the page: values that the browser windows, and the picture that the extractor sees."""

import io
import json
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array

from models.images import dicom

LARGEST_SIDE = 1024


@dataclass(frozen=True)
class Values:
    """Pixel values of an image before windowing, with its initial window."""

    height: int
    width: int
    channels: int
    low: float
    high: float
    centre: float
    span: float
    """Width of the window."""
    invert: bool
    data: bytes
    """Values as float32, little-endian, in the order (row, column, channel)."""

    @property
    def header(self) -> str:
        """All fields except the data, as ASCII JSON."""
        about = asdict(self)
        del about["data"]
        return json.dumps(about)


def read_values(path: Path, shown: NDArray[np.float32]) -> Values:
    """Read an image's values, reduced to at most 1024 pixels a side.

    Args:
        path: the file. Stored values are used if it is a grey, uncompressed DICOM image, which needs no codec.
        shown: display values, (H, W) or (H, W, 3) in 0 to 1, used for all other files.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _stored_values(path) if shown.ndim == 2 else None
    except Exception:  # the stored values cannot be read, but the display values can be shown
        found = None
    if found is None or found[0].shape != shown.shape:
        return _pack(255 * shown.astype(np.float32), 127.5, 255.0, invert=False)
    values, centre, span, invert = found
    return _pack(values, centre, span, invert=invert)


def to_shown(seen: NDArray[np.floating]) -> NDArray[np.float64]:
    """The extractor's input (channels, H, W), scaled to a picture in 0 to 1."""
    values = np.asarray(seen, dtype=np.float64)
    low, high = values.min(), values.max()
    unit = (values - low) / max(high - low, 1e-12)
    return np.moveaxis(unit, 0, -1) if len(unit) == 3 else unit[0]


def to_png(values: NDArray[np.floating], *, least_side: int = 224) -> bytes:
    """Make a PNG of an array in 0 to 1, (H, W) or (H, W, 3). Small arrays are enlarged without smoothing."""
    picture = Image.fromarray(np.clip(np.asarray(values) * 255 + 0.5, 0, 255).astype(np.uint8))
    scale = max(1, -(-least_side // min(picture.size)))
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def picture_bytes(data: bytes, side: int = 128) -> bytes:
    """PNG of a message's first bytes, one grey pixel for each byte."""
    shown = np.frombuffer(data[: side * side].ljust(side * side, b"\0"), dtype=np.uint8).reshape(side, side)
    return to_png(shown / 255)


def measure_entropy(data: bytes) -> float:
    """Shannon entropy of the byte values, bits per byte; 8 for uniformly random bytes."""
    if not data:
        return 0.0
    shares = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256) / len(data)
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _stored_values(path: Path) -> tuple[NDArray[np.float32], float, float, bool] | None:
    """Rescaled values, window centre and width, and whether high values are black; None if there are none."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return None
    dataset = dicom.read(path)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return None
    stored = pixel_array(dataset, index=dicom.count_frames(dataset) // 2)
    values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    centre, span = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or span is None or span < 1:
        low, high = np.percentile(values, [0.5, 99.5])
        centre, span = float(low + high) / 2, max(float(high - low), 1.0)
    return values, centre, span, dataset.get("PhotometricInterpretation") == "MONOCHROME1"


def _pack(values: NDArray[np.float32], centre: float, span: float, *, invert: bool) -> Values:
    step = -(-max(values.shape[:2]) // LARGEST_SIDE)
    reduced = np.ascontiguousarray(np.nan_to_num(values[::step, ::step]), dtype="<f4")
    height, width = reduced.shape[:2]
    channels = reduced.shape[2] if reduced.ndim == 3 else 1
    low, high = float(reduced.min()), float(reduced.max())
    return Values(height, width, channels, low, high, centre, span, invert, reduced.tobytes())


def _first(value: Any) -> float | None:
    """The first value of an attribute; None if it is missing or not a finite number."""
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    try:
        number = float(values[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None
