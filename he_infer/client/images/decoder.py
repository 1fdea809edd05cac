"""The decoding process: reads image files with third-party codecs, holds no key, and has a memory limit.

It is started as `python -m he_infer.client.images.decoder`, reads one JSON request a line from standard input, and
writes frames to standard output: the length of a JSON header (u32, little-endian), the header, then the pixels as
float32. The last message of a request has the member `end`, or `refusal` with one line for the user.
"""

import json
import logging
import os
import struct
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

MOST_INFLATED = 512 << 20
"""Maximum size of a deflated DICOM file after inflating, bytes."""
_DEFLATED = "1.2.840.10008.1.2.1.99"


def main() -> None:
    """Serve requests until standard input ends."""
    from he_infer.client.images.limits import bound_memory

    logging.disable(logging.CRITICAL)
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # a codec that prints must not write between the frames
    bound_memory(int(sys.argv[1]))
    _load()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        # As bytes: the client's locale may encode names in another way than this process.
        path = Path(os.fsdecode(bytes.fromhex(request["path"])))
        try:
            _decode(path, request["frames"], out)
            _send(out, {"end": True})
        except MemoryError:
            _send(out, {"refusal": f"{path} needs more memory than the decoder is allowed; it was not read."})
        except Exception as error:
            known = type(error).__module__ in ("models.errors", "he_infer.errors")
            text = str(error) if known else f"{path} cannot be decoded ({type(error).__name__})."
            _send(out, {"refusal": " ".join(text.split())})


def _load() -> None:
    """Import the readers before the first request, outside of the first file's time limit."""
    import models.images.dicom
    import models.images.load  # noqa: F401


def _decode(path: Path, frames: Any, out: BinaryIO) -> None:
    import numpy as np

    from models.images.load import load_frames, sniff

    if sniff(path) == "dicom":  # refuses pipes, which would wait for their other end, and whatever cannot be opened
        refuse_inflating(path)
    for image in load_frames(path, frames):
        pixels = np.ascontiguousarray(image.pixels, dtype="<f4")
        known = asdict(image.identifiers) if image.identifiers else {}
        header = {
            "shape": list(pixels.shape),
            "frame": image.frame,
            "remarks": list(image.remarks),
            "kind": dict(image.kind),
            "identifiers": {name: known.get(name) for name in ("sop_instance", "series", "study", "accession")},
        }
        _send(out, header, pixels.tobytes())


def refuse_inflating(path: Path, most: int = MOST_INFLATED) -> None:
    """Refuse a deflated DICOM file that would inflate beyond a limit; pydicom inflates without a limit.

    Raises:
        ImageError: the file is too large after inflating, or damaged.
    """
    import zlib

    from he_infer.errors import ImageError

    with path.open("rb") as file:
        head = file.read(144)
        if head[128:132] != b"DICM" or head[132:138] != b"\x02\x00\x00\x00UL":
            return
        (length,) = struct.unpack_from("<I", head, 140)
        meta = file.read(min(length, 1 << 16))
        if _DEFLATED.encode() not in meta:
            return
        file.seek(144 + length)
        inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        try:
            while piece := file.read(1 << 16):
                while piece:
                    total += len(inflater.decompress(piece, 1 << 20))
                    piece = inflater.unconsumed_tail
                    if total > most:
                        raise ImageError(
                            f"{path} is deflated and would take more than {most >> 20} MiB; it was not read. "
                            "Convert it to another transfer syntax first."
                        )
        except zlib.error as error:
            raise ImageError(f"{path} is deflated and damaged. Fetch it again.") from error


def _send(out: BinaryIO, header: dict[str, Any], body: bytes = b"") -> None:
    data = json.dumps(header).encode()
    out.write(struct.pack("<I", len(data)) + data)
    out.write(body)
    out.flush()


if __name__ == "__main__":
    main()
