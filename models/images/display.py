"""Display values of a frame of a DICOM object, as a viewer shows them: float32 from 0 (black) to 1 (white).

The grey pipeline is that of PS3.4 annex N.2: stored values -> Modality LUT (or rescale) -> VOI LUT (or window) ->
presentation (MONOCHROME1 turned). Enhanced multi-frame objects keep these in functional groups, which are looked up.
docs/images.md has tables of photometric kinds, transfer syntaxes and ranges of values.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut

from models.errors import DamagedImage, ImageError
from models.images import decoding, dicom, lookup

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
_NEAR = 0.01
"""Lossy compression moves padding by at most this share of the range of the other pixels."""
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")

Grey = NDArray[np.float64]


def show(dataset: pydicom.Dataset, path: Path, frame: int) -> NDArray[np.float32]:
    """Display values of one frame: (H, W) or (H, W, 3), float32 in [0, 1].

    Raises:
        ImageError: no such frame.
        DamagedImage: the pixels cannot be decoded; the text names the transfer syntax or the tag.
    """
    count = dicom.count_frames(dataset)
    if not 0 <= frame < count:
        raise ImageError(f"{path} holds {count} frame(s), numbered from 0; frame {frame} was asked for.")
    try:
        with dicom.quiet():
            return _show(dataset, frame)
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:  # codecs of several packages run here, on foreign bytes
        raise DamagedImage(
            f"The pixels of {path} cannot be decoded ({dicom.describe_syntax(dataset)}; {type(error).__name__}): the "
            "file is cut off or damaged, or this compression is not supported."
        ) from error


def remark(dataset: pydicom.Dataset, image: NDArray[np.float32]) -> tuple[str, ...]:
    """Remarks on a frame that is displayed but probably shows no patient."""
    remarks = []
    if dicom.text(dataset, "SOPClassUID") in _SEGMENTATIONS or dicom.text(dataset, "Modality") == "SEG":
        remarks.append("This is a segmentation: it shows where something is, not an image of it.")
    elif dicom.number(dataset, "BitsAllocated", 8) == 1:
        remarks.append("The pixels have one bit: this is a mask, not an image.")
    if _holds_more(dataset):
        remarks.append("The file holds more pixels than its header announces; these are not shown.")
    if image.size and float(image.min()) == float(image.max()):
        shade = "black" if image.flat[0] == 0 else "white" if image.flat[0] == 1 else "one grey"
        remarks.append(f"The frame is {shade} throughout.")
    return tuple(remarks)


def _holds_more(dataset: pydicom.Dataset) -> bool:
    """Whether uncompressed pixels go on for a row or more after those that rows, columns and frames account for."""
    if "PixelData" not in dataset or dataset.file_meta.TransferSyntaxUID.is_compressed:
        return False
    columns, samples, bits = (
        dicom.number(dataset, name, 1) for name in ("Columns", "SamplesPerPixel", "BitsAllocated")
    )
    row = columns * samples * bits / 8
    return len(dataset.PixelData) >= row * (dicom.number(dataset, "Rows", 1) * dicom.count_frames(dataset) + 1)


def _show(dataset: pydicom.Dataset, index: int) -> NDArray[np.float32]:
    kind = dicom.text(dataset, "PhotometricInterpretation").upper() or "MONOCHROME2"
    if kind not in (*_GREY, *_COLOUR, _PALETTE):
        raise DamagedImage(
            f"(0028,0004) Photometric Interpretation is '{kind}', which is not displayed. Expected MONOCHROME1 or 2, "
            "PALETTE COLOR, RGB or YBR."
        )
    stored = decoding.decode(dataset, index, kind)
    if kind == _PALETTE:
        return _palette(dataset, stored)
    if stored.ndim == 3:
        bits = int(dicom.number(dataset, "BitsStored", 8))
        return _unit(stored[..., :3].astype(np.float64) / (2.0**bits - 1))
    grey = _window(stored, dataset, _attributes(dataset, index))
    padding = _padding(stored, dataset)
    if (kind == "MONOCHROME1") != (kind == "MONOCHROME2" and _inverse(dataset)):
        grey = 1 - grey
    grey[padding] = 0
    return _unit(grey)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.clip(values, 0, 1), dtype=np.float32)


def _inverse(dataset: pydicom.Dataset) -> bool:
    return dicom.text(dataset, "PresentationLUTShape").upper() == "INVERSE"


def _palette(dataset: pydicom.Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    order = lookup.byte_order(dataset)
    signed = stored.dtype.kind == "i"
    if "SegmentedRedPaletteColorLookupTableData" in dataset and "RedPaletteColorLookupTableData" not in dataset:
        colours = apply_color_lut(stored.astype(np.int32), dataset)
        return _unit(colours[..., :3].astype(np.float64) / np.iinfo(colours.dtype).max)
    tables = []
    for colour in ("Red", "Green", "Blue"):
        keyword = f"{colour}PaletteColorLookupTable"
        descriptor, data = dataset.get(f"{keyword}Descriptor"), dataset.get(f"{keyword}Data")
        tags = (f"{colour} Palette Color Lookup Table Descriptor", f"{colour} Palette Color Lookup Table Data")
        tables.append(lookup.read_table(descriptor, data or None, order, signed, tags))
    # Entries of 8 bits in 16, whatever the descriptor says: the largest entry tells which they are.
    white = 255.0 if max(int(table.entries.max()) for table in tables) <= 255 else 65535.0
    return _unit(np.stack([table.look_up(stored) for table in tables], axis=-1) / white)


def _attributes(dataset: pydicom.Dataset, index: int) -> pydicom.Dataset:
    """The attributes of one frame that turn stored into display values, wherever the object keeps them."""
    wanted = (
        "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
        "VOILUTSequence",
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


def _table(attributes: pydicom.Dataset, sequence: str, order: str, signed: bool) -> lookup.Table | None:
    """The first table of a sequence that holds one."""
    for item in attributes.get(sequence) or ():
        table = lookup.read_item(item, order, signed)
        if table is not None:
            return table
    return None


def _window(stored: NDArray[Any], dataset: pydicom.Dataset, attributes: pydicom.Dataset) -> Grey:
    order = lookup.byte_order(dataset)
    modality = _table(attributes, "ModalityLUTSequence", order, stored.dtype.kind == "i")
    slope = dicom.number(attributes, "RescaleSlope", 1.0)
    intercept = dicom.number(attributes, "RescaleIntercept", 0.0)
    values: Grey = (
        stored.astype(np.float64) * slope + intercept if modality is None else modality.look_up(stored).astype(float)
    )
    padding = _padding(stored, dataset)
    if not np.isfinite(values[~padding]).all():
        raise DamagedImage("The image holds pixels that are not numbers (NaN or infinite).")
    values[~np.isfinite(values)] = 0  # padding, which is drawn black whatever it holds
    signed = modality is None and (stored.dtype.kind == "i" or intercept < 0 or slope < 0)
    table = _table(attributes, "VOILUTSequence", order, signed)
    if table is not None:
        return table.look_up(values) / (2.0**table.bits - 1)
    window = _chosen_window(attributes)
    if window is not None:
        return window_values(values, *window)
    bits = int(dicom.number(dataset, "BitsStored", 16))
    if modality is None and (slope, intercept) == (1.0, 0.0) and bits <= 8 and stored.dtype.kind == "u":
        return np.asarray(np.clip(values / (2.0**bits - 1), 0, 1))
    kept = values[~padding]
    low, high = (kept.min(), kept.max()) if kept.size else (0.0, 0.0)
    return np.asarray(np.clip((values - low) / max(high - low, np.finfo(np.float64).tiny), 0, 1))


def _chosen_window(attributes: pydicom.Dataset) -> tuple[float, float, str] | None:
    """The first window (centre, width, function); None where there is none or it is invalid."""
    try:
        centre = dicom.number(attributes, "WindowCenter", float("nan"))
        width = dicom.number(attributes, "WindowWidth", float("nan"))
    except DamagedImage:
        return None
    function = dicom.text(attributes, "VOILUTFunction").upper() or "LINEAR"
    smallest = 1.0 if function == "LINEAR" else np.finfo(np.float64).tiny
    if not (np.isfinite(centre) and np.isfinite(width)) or width < smallest:
        return None
    return centre, width, function


def window_values(values: Grey, centre: float, width: float, function: str = "LINEAR") -> Grey:
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
    raise ImageError(f"(0028,1056) VOI LUT Function is '{function}'. Expected LINEAR, LINEAR_EXACT or SIGMOID.")


def _padding(stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.bool_]:
    """Mask of the padding pixels (PS3.3 C.7.5.1.1.2), which lie outside of the scanner's field of view.

    Lossy compression moves padding by a few units. A group of values that contains the padding value, lies at an end of
    the image's values and is far from the others is padding as a whole.
    """
    kind = "Float" if "FloatPixelData" in dataset else "DoubleFloat" if "DoubleFloatPixelData" in dataset else ""
    absent = float("inf")  # no value in a header's text becomes it; NaN may be the padding of fractions
    first = _as_stored(stored, dicom.number(dataset, f"{kind}PixelPaddingValue", absent))
    if first == absent:
        return np.zeros(stored.shape, dtype=bool)
    if np.isnan(first):
        return np.asarray(np.isnan(stored))
    limit = dicom.number(dataset, f"{kind}PixelPaddingRangeLimit", absent)
    last = first if limit == absent else _as_stored(stored, limit)
    low, high = sorted((first, last))
    present = np.unique(stored).astype(np.float64)
    others = present[(present < low) | (present > high)]
    if others.size:
        near = _NEAR * float(others.max() - others.min())
        group = others[(others >= low - near) & (others <= high + near)]
        rest = others[(others < low - near) | (others > high + near)]
        one_sided = rest.size > 0 and (rest.min() > high or rest.max() < low)
        reach = max(high, group.max(initial=high)), min(low, group.min(initial=low))
        gap = (rest.min() - reach[0] if rest.min() > high else reach[1] - rest.max()) if one_sided else 0.0
        if one_sided and group.size and gap > 2 * near:
            low, high = reach[1], reach[0]
    return np.asarray((stored >= low) & (stored <= high))


def _as_stored(stored: NDArray[Any], value: float) -> float:
    """A padding value encoded as unsigned while the pixels are signed: the same bits mean a negative number."""
    if stored.dtype.kind == "i" and value > np.iinfo(stored.dtype).max:
        return value - 2.0 ** (8 * stored.dtype.itemsize)
    return value
