"""Bit sequences: from bytes or text to an array of 0 and 1, and the integer codes of its m-bit windows."""

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


def from_bytes(data: bytes, count: int | None = None) -> Bits:
    """Unpack bytes, most significant bit first; `count` keeps only that many leading bits."""
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count)


def from_text(text: str) -> Bits:
    """Read a string of the digits 0 and 1; white space is skipped.

    Raises:
        ValueError: another character than 0, 1 or white space.
    """
    digits = "".join(text.split())
    if set(digits) - {"0", "1"}:
        raise ValueError("a bit string holds the digits 0 and 1 only")
    return np.frombuffer(digits.encode("ascii"), dtype=np.uint8) - np.uint8(ord("0"))


def codes(bits: Bits, width: int, *, cyclic: bool = False) -> NDArray[np.int64]:
    """The windows of `width` bits at every position as integers, first bit most significant.

    Without `cyclic` there are n - width + 1 of them; with it n, the sequence being continued by its own beginning.
    """
    source = np.concatenate([bits, bits[: width - 1]]) if cyclic else bits
    count = source.size - width + 1
    values = np.zeros(max(count, 0), dtype=np.int64)
    for offset in range(width):
        values = (values << 1) | source[offset : offset + count]
    return values
