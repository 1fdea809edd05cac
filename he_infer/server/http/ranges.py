"""The `Range` header's meaning for an object of known size (RFC 9110, section 14)."""

import re

from he_infer.wire.refusals import Code, Refused

_SINGLE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def resolve(header: str | None, size: int) -> tuple[int, int] | None:
    """Find the bytes of an object that a request asks for.

    Args:
        header: the `Range` header, or None.
        size: bytes of the object.

    Returns:
        Start and end (exclusive), or None for the whole object: without the header, and, as the RFC wants, for
        headers of another unit, of several ranges or of no valid form.

    Raises:
        Refused: `bad_range` where no byte of the object is asked for.
    """
    match = _SINGLE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise Refused(Code.BAD_RANGE, f"The object has {size} bytes; the range asked for holds none of them.")
    return start, end
