"""A DICOM object -> display values of one frame. Knows pydicom; knows nothing of files other than DICOM.

The grey pipeline is that of PS3.4 annex N.2: stored values -> Modality LUT (or rescale) -> VOI LUT (or window) ->
presentation (MONOCHROME1 turned). Enhanced multi-frame objects keep these in functional groups, which are looked up.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array

from models.errors import DamagedImage, ImageError, NotAnImage

_PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read(path: Path) -> pydicom.Dataset:
    """Read a DICOM file whose pixels can be asked for.

    Raises:
        NotAnImage: not DICOM, or an object without pixels (a report, a structure set, a directory).
    """
    try:
        with quiet():
            dataset = _read(path)
    except InvalidDicomError as error:
        raise NotAnImage(f"{path} is not a DICOM file, in spite of its name: the DICOM header is missing.") from error
    except Exception as error:  # the parser meets foreign bytes here, and lets many kinds of error through
        raise NotAnImage(f"{path} cannot be parsed as DICOM ({type(error).__name__}).") from error
    if not any(element in dataset for element in _PIXEL_ELEMENTS):
        what = dataset.get("SOPClassUID")
        kind = f" ({what.name})" if isinstance(what, pydicom.uid.UID) else ""
        raise NotAnImage(f"{path} is a DICOM object without pixels{kind}. An image object is needed.")
    return dataset


def frames(dataset: pydicom.Dataset) -> int:
    """Number of frames, at least 1."""
    return max(int(dataset.get("NumberOfFrames", 1) or 1), 1)


def display(dataset: pydicom.Dataset, path: Path, frame: int | None = None) -> NDArray[np.float32]:
    """Display values of one frame (the middle one by default): (H, W) or (H, W, 3), float32 in [0, 1].

    Raises:
        ImageError: no such frame.
        DamagedImage: the pixels cannot be decoded.
    """
    count = frames(dataset)
    index = count // 2 if frame is None else frame
    if not 0 <= index < count:
        raise ImageError(f"{path} holds {count} frame(s), numbered from 0; frame {index} was asked for.")
    try:
        with quiet():
            return _display(dataset, index)
    except ImageError:
        raise
    except Exception as error:  # codecs of several packages run here, on foreign bytes
        raise DamagedImage(
            f"The pixels of {path} cannot be decoded ({type(error).__name__}): the file is cut off or damaged, or its "
            "compression is not supported."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings about other people's files off the user's screen."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _read(path: Path) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path)
    except InvalidDicomError:
        # Without a preamble. Taken only where it proves to be an image: forced reading makes something of any text.
        dataset = pydicom.dcmread(path, force=True)
        if "SOPClassUID" not in dataset or "Rows" not in dataset:
            raise
        if getattr(dataset.file_meta, "TransferSyntaxUID", None) is None:
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = (
                pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
            )
        return dataset


def _display(dataset: pydicom.Dataset, index: int) -> NDArray[np.float32]:
    stored = pixel_array(dataset, index=index)
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset)
        return _unit(colours[..., :3], np.iinfo(colours.dtype).max)
    if stored.ndim == 3:
        return _unit(stored[..., :3], 2 ** int(dataset.get("BitsStored", 8)) - 1)
    grey = _windowed(stored, dataset, _attributes(dataset, index))
    padding = _padding(stored, dataset)
    if photometric == "MONOCHROME1":
        grey = 1 - grey
    grey[padding] = 0
    return np.ascontiguousarray(grey, dtype=np.float32)


def _unit(values: NDArray[Any], maximum: int) -> NDArray[np.float32]:
    return np.asarray(np.clip(values.astype(np.float32) / np.float32(maximum), 0, 1))


def _attributes(dataset: pydicom.Dataset, index: int) -> pydicom.Dataset:
    """The attributes of one frame that turn stored into display values, wherever the object keeps them."""
    wanted = (
        "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter", "WindowWidth",
        "VOILUTFunction", "VOILUTSequence", "BitsStored", "PixelRepresentation",
    )  # fmt: skip
    places = [dataset]
    shared = dataset.get("SharedFunctionalGroupsSequence")
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    groups = [shared[0]] if shared else []
    if per_frame and index < len(per_frame):
        groups.append(per_frame[index])
    for group in groups:
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            if group.get(macro):
                places.append(group[macro][0])
    attributes = pydicom.Dataset()
    for place in places:
        for keyword in wanted:
            if keyword in place and place[keyword].value not in (None, ""):
                attributes[keyword] = place[keyword]
    return attributes


def _windowed(stored: NDArray[Any], dataset: pydicom.Dataset, attributes: pydicom.Dataset) -> NDArray[np.float64]:
    values = np.asarray(apply_modality_lut(stored, attributes), dtype=np.float64)
    if attributes.get("VOILUTSequence"):
        table = attributes.VOILUTSequence[0]
        whole = values.astype(np.int64) if values.dtype.kind == "f" else values
        looked_up = apply_voi(whole, attributes)
        return np.clip(looked_up / (2.0 ** int(table.LUTDescriptor[2]) - 1), 0, 1)
    window = _window(attributes)
    if window is not None:
        return window_values(values, *window)
    bits = int(dataset.get("BitsStored", 16))
    plain = np.array_equal(values, stored)
    if plain and bits <= 8 and stored.dtype.kind == "u":
        return np.clip(values / (2.0**bits - 1), 0, 1)
    kept = values[~_padding(stored, dataset)]
    low, high = (kept.min(), kept.max()) if kept.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DamagedImage("The image holds pixels that are not numbers (NaN or infinite).")
    return np.clip((values - low) / max(high - low, np.finfo(np.float64).tiny), 0, 1)


def _window(attributes: pydicom.Dataset) -> tuple[float, float, str] | None:
    """The first window (centre, width, function); None where there is none or it makes no sense."""
    centre, width = attributes.get("WindowCenter"), attributes.get("WindowWidth")
    if centre is None or width is None:
        return None
    first = [value[0] if isinstance(value, (list, pydicom.multival.MultiValue)) else value for value in (centre, width)]
    function = str(attributes.get("VOILUTFunction", "LINEAR") or "LINEAR").upper()
    centre, width = float(first[0]), float(first[1])
    smallest = 1.0 if function == "LINEAR" else np.finfo(np.float64).tiny
    if not (np.isfinite(centre) and np.isfinite(width)) or width < smallest:
        return None
    return centre, width, function


def window_values(
    values: NDArray[np.float64], centre: float, width: float, function: str = "LINEAR"
) -> NDArray[np.float64]:
    """Window rescaled values to [0, 1] by PS3.3 C.11.2.1.2 (LINEAR) or C.11.2.1.3 (LINEAR_EXACT, SIGMOID).

    Raises:
        ImageError: an unknown function.
    """
    if function == "LINEAR":
        if width <= 1:  # a step, where the standard's formula would divide by zero
            return np.asarray(values > centre - 0.5, dtype=np.float64)
        return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    raise ImageError("The image names an unknown VOI LUT function. Expected LINEAR, LINEAR_EXACT or SIGMOID.")


def _padding(stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.bool_]:
    """Where the pixels are padding (PS3.3 C.7.5.1.1.2): outside of the scanner's field of view."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    # Where the element is encoded as US but the pixels are signed, the same 16 bits mean a negative number.
    if stored.dtype.kind == "i" and int(value) > np.iinfo(stored.dtype).max:
        value = int(value) - 2 ** (8 * stored.dtype.itemsize)
    limit = dataset.get("PixelPaddingRangeLimit", value)
    if stored.dtype.kind == "i" and int(limit) > np.iinfo(stored.dtype).max:
        limit = int(limit) - 2 ** (8 * stored.dtype.itemsize)
    low, high = sorted((int(value), int(limit)))
    return np.asarray((stored >= low) & (stored <= high))
