"""How the server and its own workers talk: a JSON header and raw parts in one byte string, and never a pickle.

A worker parses hostile bytes, so the server does not unpickle what a worker sends: it reads JSON and lengths.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from he_infer.errors import FormatError

_LENGTH = struct.Struct("<I")


def encode(header: Mapping[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """Join a header and parts to one frame."""
    head = json.dumps({**header, "sizes": [len(part) for part in parts]}).encode()
    return b"".join((_LENGTH.pack(len(head)), head, *parts))


def decode(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Split a frame.

    Raises:
        FormatError: the bytes are not a frame.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        start = _LENGTH.size + length
        header = json.loads(data[_LENGTH.size : start])
        sizes = header.pop("sizes")
        fitting = all(isinstance(size, int) and size >= 0 for size in sizes)
        if not fitting or sum(sizes) != len(data) - start:
            raise FormatError("A frame between server and worker has parts of other lengths than announced.")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("A frame between server and worker is malformed.") from error
    view = memoryview(data)
    parts = []
    for size in sizes:
        parts.append(bytes(view[start : start + size]))
        start += size
    return header, parts
