"""Reads images through decoding processes: third-party codecs never run in the process that holds the secret key."""

import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from he_infer.client.results import Identifiers

Frames = Literal["middle", "all"] | int

MEMORY = 2 << 30
"""Address space of a decoding process, bytes."""
SECONDS = 60.0
"""Maximum decoding time of one file, seconds."""
MOST_PIXEL_BYTES = 1 << 30
"""Maximum size of all decoded frames of one file, bytes."""
_MOST_HEADER = 1 << 20
_START_SECONDS = 60.0
# Environment variables that a decoder needs. Passphrases and tokens are not passed on.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True, eq=False)
class ReadImage:
    """One frame of a file, or the reason why the file has none."""

    path: Path
    frame: int = 0
    pixels: NDArray[np.float32] | None = field(default=None, repr=False)
    """(H, W) for grey, (H, W, 3) for colour, values in [0, 1]."""
    refusal: str | None = None
    identifiers: Identifiers = field(default_factory=Identifiers)
    remarks: tuple[str, ...] = ()
    kind: Mapping[str, str] = field(default_factory=dict)
    """Properties from the DICOM header: `modality`, `body_part`, `view`, `photometric`."""


class ImageReader:
    """A pool of decoding processes, started when they are needed.

    Args:
        processes: number of files that are decoded at the same time.
        memory: address space of each, bytes.
        seconds: maximum decoding time of one file.
    """

    def __init__(self, processes: int = 2, *, memory: int = MEMORY, seconds: float = SECONDS) -> None:
        self.processes = processes
        self._memory = memory
        self._seconds = seconds
        self._idle: SimpleQueue[_Decoder | None] = SimpleQueue()
        for _ in range(processes):
            self._idle.put(None)

    def read(self, path: Path, frames: Frames = "middle") -> list[ReadImage]:
        """Read the frames of a file, or give one entry with a refusal. Safe to call from many threads.

        If a file takes too long, needs too much memory or crashes its decoder, only that decoder ends.
        """
        decoder = self._idle.get()
        try:
            if decoder is None or not decoder.alive:
                decoder = _Decoder(self._memory)
            return decoder.read(path, frames, self._seconds)
        except _DecoderFailed as failed:
            if decoder is not None:
                decoder.close()
            decoder = None
            return [ReadImage(path, refusal=f"{path} {failed}")]
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """End all decoding processes that are idle."""
        for _ in range(self.processes):
            decoder = self._idle.get()
            if decoder is not None:
                decoder.close()
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _DecoderFailed(Exception):
    """The decoder gave no complete answer. The message continues a sentence that begins with the file's name."""


class _Decoder:
    """A decoding process and its pipes."""

    def __init__(self, memory: int) -> None:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "he_infer.client.images.decoder", str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._fresh = True
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def read(self, path: Path, frames: Frames, seconds: float) -> list[ReadImage]:
        """All frames of a file.

        Raises:
            _DecoderFailed: the decoder gave no complete answer.
        """
        assert self._process.stdin is not None  # noqa: S101 - it was asked for above
        deadline = time.monotonic() + seconds + (_START_SECONDS if self._fresh else 0.0)
        self._fresh = False
        try:
            self._process.stdin.write(json.dumps({"path": os.fsencode(path).hex(), "frames": frames}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise _DecoderFailed("was not read: its decoder ended.") from error
        images: list[ReadImage] = []
        held = 0
        while True:
            header = self._header(deadline)
            match header:
                case {"end": True}:
                    return images or [ReadImage(path, refusal=f"{path} holds no frame.")]
                case {"refusal": str(text)}:
                    return [*images, ReadImage(path, refusal=text)]
                case {
                    "shape": [*shape],
                    "frame": int(frame),
                    "remarks": [*remarks],
                    "kind": dict(kind),
                    "identifiers": dict(known),
                }:
                    size = 4 * int(np.prod([int(side) for side in shape]))
                    held += size
                    if size < 0 or held > MOST_PIXEL_BYTES:
                        raise _DecoderFailed(
                            f"holds more than {MOST_PIXEL_BYTES >> 20} MiB of pixels; choose one frame with --frames."
                        )
                    pixels = np.frombuffer(self._take(size, deadline), dtype="<f4").reshape([int(n) for n in shape])
                    owner = Identifiers(**{name: _text(known.get(name)) for name in Identifiers.__dataclass_fields__})
                    said = {str(name): str(value) for name, value in kind.items()}
                    images.append(ReadImage(path, frame, pixels, None, owner, tuple(map(str, remarks)), said))
                case _:
                    raise _DecoderFailed("was not read: its decoder gave no answer.")

    def close(self) -> None:
        """End the process at once."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # the decoder has ended, so unwritten bytes are lost
                    continue
        self._process.wait()

    def _header(self, deadline: float) -> dict[str, Any]:
        (length,) = struct.unpack("<I", self._take(4, deadline))
        if length > _MOST_HEADER:
            raise _DecoderFailed("was not read: its decoder gave no answer.")
        try:
            header = json.loads(self._take(length, deadline))
        except ValueError as error:
            raise _DecoderFailed("was not read: its decoder gave no answer.") from error
        return header if isinstance(header, dict) else {}

    def _take(self, size: int, deadline: float) -> bytearray:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for above
        descriptor = self._process.stdout.fileno()
        taken = bytearray()
        while len(taken) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise _DecoderFailed("took too long to decode; it was not read.")
            piece = os.read(descriptor, min(size - len(taken), 1 << 20))
            if not piece:
                raise _DecoderFailed(
                    "was not read: its decoder crashed or ran out of memory. The file may be damaged or hostile."
                )
            taken += piece
        return taken


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
