"""Offsets of the pixels in a DICOM file. Nothing is decoded and no byte is changed.

pydicom walks the elements (explicit and implicit VR, either byte order, nested sequences, undefined lengths) and stops
at the *main* pixel data; pixel data inside a sequence, an icon for instance, is walked over. This module only decides
which bytes are treated as pixels: the file comes back byte for byte in any case.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from cipher.container.beginning import reading
from cipher.container.sealing import PixelSpan
from cipher.dicom.values import number, quiet, text

PIXEL_TAGS = {0x7FE00010: "u", 0x7FE00008: "f", 0x7FE00009: "f"}
"""Pixel Data, Float Pixel Data, Double Float Pixel Data, and the kind of number in each."""
LARGE = 1 << 16
"""Elements beyond this many bytes are walked over and not kept in memory."""

_UNDEFINED = 0xFFFFFFFF
_PREAMBLE = 128
_LONG_HEADER = ("OB", "OW", "OF", "OD", "OL", "OV", "UN")
_BARE_BEGINNINGS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""Groups 0002 and 0008, little endian, and 0008 big endian: how a data set without a preamble begins."""


@dataclass(frozen=True, slots=True)
class PixelElement:
    """The main pixel data of a DICOM data set."""

    offset: int
    """Offset of its value in the file."""
    length: int
    """Bytes of the value in the file; 0 for encapsulated (compressed) pixel data, whose length is undefined."""
    encapsulated: bool
    kind: str
    """'u' for integers, 'f' for floating point."""


class Obstacle(Enum):
    """Reason for a file without a pixel span; the value is the text for a user."""

    NOT_DICOM = "not a DICOM file"
    DEFLATED = "the data set is deflated (compressed) as a whole"
    UNREADABLE = "its structure cannot be followed"
    NO_PIXELS = "it holds no pixel data"
    COMPRESSED = "its pixels are compressed and are kept as they are"
    MISFIT = "its pixel data does not fit the rows, columns and bits that it announces"


@dataclass(frozen=True, slots=True, eq=False)
class DicomLayout:
    """Layout of a file: whether it is DICOM, and where its pixels lie."""

    is_dicom: bool
    span: PixelSpan | None
    """The pixels, or none: see `obstacle`."""
    obstacle: Obstacle | None
    detail: str
    """Detail of the obstacle: the transfer syntax, the parser's error."""
    element: PixelElement | None
    transfer_syntax: str
    """UID, or empty where the file does not name one."""
    attributes: Dataset | None
    """Attributes before the pixel data, elements over `LARGE` bytes unread; none for a deflated file."""

    @property
    def remark(self) -> str:
        """Reason for the missing span, as text for a user; empty where there is a span."""
        if self.obstacle is None:
            return ""
        return f"{self.obstacle.value} ({self.detail})" if self.detail else self.obstacle.value


def lay_out(path: str | Path) -> DicomLayout:
    """Find the pixel span of a file, whatever the file is.

    Returns:
        A layout. A file that is no DICOM, or whose structure cannot be followed, has no span and a remark: it can
        still be sealed as opaque bytes.

    Raises:
        StorageProblem: the file cannot be read.
    """
    with reading(path) as handle:
        return _lay_out(Path(path), handle)


def read_attributes(handle: BinaryIO, *, large: int | None = LARGE) -> tuple[Dataset, PixelElement | None]:
    """Walk a DICOM file's elements up to the main pixel data.

    Args:
        handle: at the file's beginning.
        large: elements of more bytes are left unread; None reads all.

    Raises:
        InvalidDicomError: the bytes cannot be followed as a DICOM data set.
    """
    stop = _StopAtPixels()
    size = handle.seek(0, 2)
    handle.seek(0)
    try:
        with quiet():
            attributes = read_partial(handle, stop_when=stop, defer_size=large, force=True)
    except InvalidDicomError:
        raise
    except Exception as error:  # a parser given hostile bytes fails in whatever way they lead it to
        raise InvalidDicomError(f"{type(error).__name__} while walking the elements") from error
    if stop.tag is None:
        return attributes, None
    header = 12 if stop.vr in _LONG_HEADER else 8
    offset = handle.tell() + header
    encapsulated = stop.length == _UNDEFINED
    length = 0 if encapsulated else max(0, min(stop.length, size - offset))
    return attributes, PixelElement(offset, length, encapsulated, PIXEL_TAGS[stop.tag])


class _StopAtPixels:
    """pydicom asks this before each top-level element; it remembers the one at which the walk stopped."""

    def __init__(self) -> None:
        self.tag: int | None = None
        self.vr: str | None = None
        self.length = 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag not in PIXEL_TAGS:
            return False
        self.tag, self.vr, self.length = int(tag), vr, length
        return True


def _lay_out(path: Path, handle: BinaryIO) -> DicomLayout:
    beginning = handle.read(LARGE)
    has_preamble = beginning[_PREAMBLE : _PREAMBLE + 4] == b"DICM"
    if not has_preamble and beginning[:2] not in _BARE_BEGINNINGS:
        return DicomLayout(False, None, Obstacle.NOT_DICOM, "", None, "", None)
    syntax = _transfer_syntax(path, beginning, has_preamble)
    if syntax == DeflatedExplicitVRLittleEndian:
        return DicomLayout(True, None, Obstacle.DEFLATED, "", None, syntax, None)
    try:
        attributes, element = read_attributes(handle)
    except InvalidDicomError as error:
        return DicomLayout(has_preamble, None, Obstacle.UNREADABLE, str(error), None, syntax, None)
    if not has_preamble and not any(
        text(attributes, name) for name in ("SOPClassUID", "Rows", "PatientID", "Modality")
    ):
        return DicomLayout(False, None, Obstacle.NOT_DICOM, "", None, "", None)
    if element is None:
        return DicomLayout(True, None, Obstacle.NO_PIXELS, "", None, syntax, attributes)
    if element.encapsulated:
        name = UID(syntax).name if syntax else "an unnamed transfer syntax"
        return DicomLayout(True, None, Obstacle.COMPRESSED, name, element, syntax, attributes)
    span = find_span(attributes, element)
    return DicomLayout(True, span, None if span else Obstacle.MISFIT, "", element, syntax, attributes)


def _transfer_syntax(path: Path, beginning: bytes, has_preamble: bool) -> str:
    """The UID from the file meta information, before the data set is walked.

    pydicom would inflate a deflated one on the way, however large it becomes.
    """
    deflated = str(DeflatedExplicitVRLittleEndian)
    if not has_preamble:
        return deflated if deflated.encode() in beginning else ""
    try:
        with quiet():
            return str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
    except OSError:
        raise
    except Exception:  # as in read_attributes: no meta information that can be read
        return deflated if deflated.encode() in beginning else ""


def find_span(attributes: Dataset, element: PixelElement) -> PixelSpan | None:
    """The span of the main pixel data; none where it does not fit what the attributes announce."""
    rows, columns = number(attributes, "Rows"), number(attributes, "Columns")
    frames, samples = number(attributes, "NumberOfFrames", 1), number(attributes, "SamplesPerPixel", 1)
    bits = number(attributes, "BitsAllocated", 32 if element.kind == "f" else 0)
    planar = samples > 1 and number(attributes, "PlanarConfiguration") == 1
    if text(attributes, "PhotometricInterpretation").startswith("YBR_FULL_422") and samples == 3 and not planar:
        samples = 2  # two pixels share their colour (PS3.3 C.7.6.3.1.2)
    sides = (frames, rows, columns, samples)
    if min(*sides, bits) < 1:
        return None
    size = -(-frames * rows * columns * samples * bits // 8)
    if size > element.length:
        return None
    kind = element.kind
    if kind == "u" and number(attributes, "PixelRepresentation") == 1:
        kind = "i"
    dtype, shape = _type_and_shape(sides, bits, kind, attributes.original_encoding[1] is False, planar)
    return PixelSpan(element.offset, size, dtype, shape)


def _type_and_shape(
    sides: tuple[int, int, int, int], bits: int, kind: str, big: bool, planar: bool
) -> tuple[str, tuple[int, ...]]:
    frames, rows, columns, samples = sides
    if bits not in (8, 16, 32, 64) or (kind == "f" and bits < 32):
        packed = columns * samples * bits
        if packed % 8 == 0:
            return "|u1", _drop_one(frames, rows, packed // 8)
        return "|u1", (-(-frames * rows * packed // 8),)
    order = "|" if bits == 8 else (">" if big else "<")
    dtype = f"{order}{kind}{bits // 8}"
    if planar:
        return dtype, (frames * samples, rows, columns)
    if samples > 1:
        return dtype, (rows, columns, samples) if frames == 1 else (frames, rows, columns, samples)
    return dtype, _drop_one(frames, rows, columns)


def _drop_one(frames: int, rows: int, columns: int) -> tuple[int, ...]:
    return (rows, columns) if frames == 1 else (frames, rows, columns)
