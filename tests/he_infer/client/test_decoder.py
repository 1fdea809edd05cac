"""Requests to the decoding process: file names travel as bytes, whatever the locale of either side is."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from he_infer.client.images.reader import ImageReader
from tests.models.kit import png

LOCALES = [{"PYTHONUTF8": "1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]


@pytest.mark.parametrize("name", [b"\xc3\xa9.png", b"\xff.png", b"two\nlines.png"])
def test_name_of_any_bytes_is_read(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    png(path.with_name("plain.png"), np.zeros((9, 7), np.uint8)).rename(path)
    with ImageReader(1) as reader:
        (image,) = reader.read(path)
    assert image.pixels is not None
    assert image.pixels.shape == (9, 7)


@pytest.mark.parametrize("locale", LOCALES)
def test_decoder_takes_the_bytes_of_a_name_in_any_locale(locale: dict[str, str], tmp_path: Path) -> None:
    path = png(tmp_path / "é.png", np.zeros((9, 7), np.uint8))
    request = json.dumps({"path": os.fsencode(path).hex(), "frames": "middle"}).encode() + b"\n"
    done = subprocess.run(
        [sys.executable, "-m", "he_infer.client.images.decoder", str(2 << 30)],
        input=request,
        env={**os.environ, **locale},
        capture_output=True,
        check=True,
    )
    (length,) = struct.unpack("<I", done.stdout[:4])
    assert json.loads(done.stdout[4 : 4 + length])["shape"] == [9, 7]


def test_pipe_and_broken_link_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "lost.png").symlink_to("nowhere.png")
    with ImageReader(1) as reader:  # had the decoder waited for the pipe, it would have been ended
        refusals = [reader.read(tmp_path / name)[0].refusal for name in ("pipe.png", "lost.png")]
    assert refusals == [
        f"{tmp_path}/pipe.png is a pipe, a device or another special file; an image file was expected.",
        f"There is no file {tmp_path}/lost.png.",
    ]
