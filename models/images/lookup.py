"""Lookup tables of a DICOM object: modality, VOI and palette tables, however their data are encoded.

PS3.3 C.11.1.1.1, C.11.2.1.1 and C.7.6.3.1.5. Table data come as numbers (US, SS) or as bytes (OW): implicit VR gives
bytes, and bytes follow the byte order of the file.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from models.errors import DamagedImage

DESCRIPTOR = "LUTDescriptor"
DATA = "LUTData"
_ENTRIES = 1 << 16


@dataclass(frozen=True, eq=False)
class Table:
    """Values to look up: input `first` gives entry 0, inputs beyond either end give the end's entry."""

    first: int
    entries: NDArray[np.int64]
    bits: int
    """Number of bits of the largest value that an entry can have."""

    def look_up(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The entries of values; fractions are rounded."""
        index = np.rint(np.asarray(values, dtype=np.float64)).astype(np.int64) - self.first
        return np.asarray(self.entries[np.clip(index, 0, len(self.entries) - 1)])


def byte_order(dataset: pydicom.Dataset) -> str:
    """`<` or `>`: the byte order in which the file keeps words."""
    meta = getattr(dataset, "file_meta", None)
    syntax = None if meta is None else meta.get("TransferSyntaxUID")
    return ">" if syntax == pydicom.uid.ExplicitVRBigEndian else "<"


def read_item(item: pydicom.Dataset, order: str, signed: bool) -> Table | None:
    """The table in an item of a LUT sequence; None where the item is empty, as some manufacturers write it.

    Args:
        item: one item of a Modality or VOI LUT Sequence.
        order: `byte_order` of the file.
        signed: whether input values can be negative; the first input value is then read as signed.

    Raises:
        DamagedImage: a descriptor without data, data without a descriptor, or fewer entries than announced.
    """
    descriptor, data = _value(item, DESCRIPTOR), _value(item, DATA)
    if descriptor is None and data is None:
        return None
    return read_table(descriptor, data, order, signed, tags=("(0028,3002) LUT Descriptor", "(0028,3006) LUT Data"))


def read_table(descriptor: Any, data: Any, order: str, signed: bool, tags: tuple[str, str]) -> Table:
    """A table from its descriptor and data; `tags` names both for messages."""
    try:
        count, first, bits = (int(value) for value in _words(descriptor, order)[:3])
    except (TypeError, ValueError) as error:
        raise DamagedImage(f"{tags[0]} is missing or is not three numbers, which a lookup table needs.") from error
    if data is None:
        raise DamagedImage(f"{tags[1]} is missing, though {tags[0]} announces {count or _ENTRIES} entries.")
    count, first = count or _ENTRIES, first & 0xFFFF
    if signed and first >= 1 << 15:
        first -= 1 << 16
    entries = _entries(data, count, order)
    if len(entries) < count:
        raise DamagedImage(f"{tags[1]} holds {len(entries)} entries; {tags[0]} announces {count}.")
    entries = entries[:count]
    # Tables of 8 bits in 16, and descriptors that state too few bits: the largest entry decides.
    bits = max(bits if 8 <= bits <= 16 else 8, int(entries.max()).bit_length())
    return Table(first, entries, bits)


def _value(item: pydicom.Dataset, keyword: str) -> Any:
    value = item[keyword].value if keyword in item else None
    return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def _words(value: Any, order: str) -> NDArray[np.int64]:
    if isinstance(value, bytes | bytearray):
        return np.frombuffer(bytes(value[: len(value) // 2 * 2]), dtype=f"{order}u2").astype(np.int64)
    return np.atleast_1d(np.asarray(value, dtype=np.int64))


def _entries(data: Any, count: int, order: str) -> NDArray[np.int64]:
    if not isinstance(data, bytes | bytearray):
        return np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
    if len(data) >= 2 * count:
        return _words(data, order)
    # One byte an entry, two of them in each word: in a big-endian file the first lies in the low, that is second byte.
    raw = np.frombuffer(bytes(data), dtype=np.uint8)
    if order == ">" and len(raw) % 2 == 0:
        raw = raw.reshape(-1, 2)[:, ::-1].reshape(-1)
    return raw.astype(np.int64)
