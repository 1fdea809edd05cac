"""Image files made to harm the client: each is refused within its limits, and the next file is read."""

import json
import os
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from he_infer.client.images import reader as readers
from he_infer.client.images.decoder import refuse_inflating
from he_infer.client.images.reader import ImageReader
from he_infer.errors import ImageError


@pytest.fixture(scope="module")
def reader() -> Iterator[ImageReader]:
    with ImageReader(1) as opened:
        yield opened


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.png"
    Image.fromarray(np.full((8, 8), 128, dtype=np.uint8)).save(path)
    return path


def deflated_dicom(path: Path, size: int) -> Path:
    """Write a deflated DICOM file whose data are `size` zeros."""
    uid = b"1.2.840.10008.1.2.1.99"
    element = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(uid)) + uid
    meta = b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(element)) + element
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(size >> 20)) + deflater.flush()
    path.write_bytes(bytes(128) + b"DICM" + meta + data)
    return path


def test_a_deflated_dicom_that_grows_beyond_its_bound_is_refused(
    reader: ImageReader, tmp_path: Path, good: Path
) -> None:
    bomb = deflated_dicom(tmp_path / "bomb.dcm", 600 << 20)
    assert bomb.stat().st_size < 1 << 20
    (refused,) = reader.read(bomb)
    assert refused.pixels is None
    assert "deflated" in str(refused.refusal)
    assert reader.read(good)[0].pixels is not None


def test_inflated_size_is_limited_before_the_data_are_kept(tmp_path: Path) -> None:
    refuse_inflating(deflated_dicom(tmp_path / "small.dcm", 1 << 20))
    with pytest.raises(ImageError, match="more than"):
        refuse_inflating(deflated_dicom(tmp_path / "large.dcm", 8 << 20), most=4 << 20)
    damaged = tmp_path / "damaged.dcm"
    whole = (tmp_path / "small.dcm").read_bytes()
    damaged.write_bytes(whole[:174] + b"\xff" * 50)
    with pytest.raises(ImageError, match="damaged"):
        refuse_inflating(damaged)


def test_an_image_that_needs_more_memory_than_its_decoder_has_is_refused(tmp_path: Path, good: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("L", (12000, 12000)).save(large)
    with ImageReader(1, memory=1 << 30) as small:
        (refused,) = small.read(large)
        assert refused.pixels is None
        assert refused.refusal
        assert small.read(good)[0].pixels is not None


FAILING = """
import json, os, sys, time
for line in sys.stdin:
    path = bytes.fromhex(json.loads(line)["path"]).decode()
    if path.endswith("hang.png"):
        time.sleep(60)
    if path.endswith("crash.png"):
        os.abort()
    data = json.dumps({"end": True}).encode()
    sys.stdout.buffer.write(len(data).to_bytes(4, "little") + data)
    sys.stdout.buffer.flush()
"""


def test_a_decoder_that_hangs_or_crashes_loses_only_one_file(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder process here loops forever or crashes on request, as a faulty codec would."""
    script = tmp_path / "decoder.py"
    script.write_text(FAILING)
    real = readers.subprocess.Popen
    monkeypatch.setattr(
        readers.subprocess, "Popen", lambda command, **named: real([sys.executable, str(script)], **named)
    )
    monkeypatch.setattr(readers, "_START_SECONDS", 0.0)
    with ImageReader(1, seconds=3.0) as reader:
        began = time.monotonic()
        assert "too long" in str(reader.read(tmp_path / "hang.png")[0].refusal)
        assert time.monotonic() - began < 30
        assert "crashed or ran out of memory" in str(reader.read(tmp_path / "crash.png")[0].refusal)
        assert "no frame" in str(reader.read(good)[0].refusal)


def test_a_decoder_holds_no_passphrase_and_no_token(
    good: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HE_INFER_PASSPHRASE", "a passphrase of the hospital")
    monkeypatch.setenv("HE_INFER_TOKEN", "hei_of_the_hospital")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of somebody else")
    with ImageReader(1) as reader:
        assert reader.read(good)[0].pixels is not None
        decoder = reader._idle.get()
        assert decoder is not None
        pid = decoder._process.pid
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        memory = [
            int(line.split()[3])
            for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
            if "address space" in line
        ]
        reader._idle.put(decoder)
    for secret in (b"hospital", b"somebody"):
        assert secret not in environment
    assert memory == [readers.MEMORY]


def test_files_that_are_no_images_are_refused_each_with_its_reason(reader: ImageReader, tmp_path: Path) -> None:
    makers = {"empty.png": b"", "text.dcm": b"a letter", "cut.png": b"\x89PNG\r\n\x1a\n\x00", "zeros": bytes(1000)}
    for name, content in makers.items():
        path = tmp_path / name
        path.write_bytes(content)
        (refused,) = reader.read(path)
        assert refused.pixels is None
        assert name in str(refused.refusal)
        assert "\n" not in str(refused.refusal)
    (missing,) = reader.read(tmp_path / "none.png")
    assert "none.png" in str(missing.refusal)


def test_names_that_are_no_utf_8_are_read_or_refused(reader: ImageReader, tmp_path: Path, good: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png"))
    odd.write_bytes(good.read_bytes())
    (read,) = reader.read(odd)
    assert read.pixels is not None or read.refusal
    assert json.dumps(str(read.refusal))
