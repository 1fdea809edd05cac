"""The pipe between the server and its workers: a JSON header, then the raw parts one by one, and never a pickle.

A worker parses hostile bytes, so the server does not unpickle what a worker sends: it reads JSON and lengths. Parts are
not joined before they are sent, so that a large one is copied once and not three times.
"""

import json
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from he_infer.errors import FormatError

MAX_HEADER = 64 << 20
"""Bytes of a header: a worker's first one describes all models with their plans."""


def send(connection: "Connection[bytes, bytes]", header: Mapping[str, Any], parts: Sequence[bytes] = ()) -> None:
    """Send a header and parts.

    Raises:
        OSError: the other side is gone.
    """
    connection.send_bytes(json.dumps({**header, "sizes": [len(part) for part in parts]}).encode())
    for part in parts:
        connection.send_bytes(part)


def receive(connection: "Connection[bytes, bytes]", limit: int | None = None) -> tuple[dict[str, Any], list[bytes]]:
    """Receive a header and its parts.

    Args:
        connection: the pipe.
        limit: bytes that all parts together may have.

    Raises:
        EOFError, OSError: the other side is gone, or sends more than it may.
        FormatError: what came is not a header, or its parts are of other lengths than announced.
    """
    try:
        header = json.loads(connection.recv_bytes(MAX_HEADER))
        sizes = header.pop("sizes")
        fitting = all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in sizes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("A header between server and worker is malformed.") from error
    if not fitting or (limit is not None and sum(sizes) > limit):
        raise FormatError("A header between server and worker announces parts that it must not have.")
    parts = [connection.recv_bytes(size) for size in sizes]
    if [len(part) for part in parts] != sizes:
        raise FormatError("A part between server and worker has another length than announced.")
    return header, parts
