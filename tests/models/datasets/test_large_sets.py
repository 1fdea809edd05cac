"""Sets larger than the memory that is allowed: read from archives and folders through temporary files."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy
from numpy.typing import NDArray

from models import datasets
from models.datasets import gather
from models.errors import BadLayout
from models.images import scratch
from models.images.preprocessing import Preprocessing
from tests.models.kit import arrays, npz, png

_BOUNDED = """
import resource, sys
import numpy, PIL.Image
from models import datasets
from models.images.preprocessing import Preprocessing

(used,) = [int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData")]
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[2]), used + int(sys.argv[2])))
dataset = datasets.load(sys.argv[1])
images = dataset.train.images
inputs = Preprocessing.fit(images, size=64, channels=1).apply(images)
print(images.nbytes, inputs.nbytes, int(images[-1].max()), dataset.digest)
"""


def _write_zeros(path: Path, counts: dict[str, int], side: int, *, compressed: bool) -> None:
    """Write a set of black images with a white last one, without ever holding it."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        for name, count in counts.items():
            with archive.open(f"{name}_images.npy", "w", force_zip64=True) as member:
                npy.write_array_header_1_0(
                    member, {"descr": "|u1", "fortran_order": False, "shape": (count, side, side)}
                )
                for _ in range(count - 1):
                    member.write(bytes(side * side))
                member.write(b"\xff" * (side * side))
            with archive.open(f"{name}_labels.npy", "w") as member:
                npy.write_array(member, (np.arange(count) % 2)[:, None])


@pytest.mark.parametrize("compressed", [True, False])
def test_archive_of_250_mb_is_read_and_reduced_within_150_mb(tmp_path: Path, compressed: bool) -> None:
    """The limit is the kernel's (RLIMIT_DATA), so that a single array of the whole set would fail."""
    path = tmp_path / "black.npz"
    _write_zeros(path, {"train": 5000, "val": 40, "test": 40}, 224, compressed=compressed)
    done = subprocess.run(
        [sys.executable, "-c", _BOUNDED, path, str(150 << 20)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    images, inputs, highest, _ = done.stdout.split()
    assert int(images) == 5000 * 224 * 224 > 150 << 20
    assert int(inputs) == 5000 * 64 * 64 * 4
    assert highest == "255"


def test_same_set_read_whole_exceeds_that_limit(tmp_path: Path) -> None:
    """The control: with every array in memory, the same program fails."""
    path = tmp_path / "black.npz"
    _write_zeros(path, {"train": 5000, "val": 40, "test": 40}, 224, compressed=True)
    whole = _BOUNDED.replace("(used,)", "from models.images import scratch\nscratch.IN_MEMORY = 1 << 40\n(used,)")
    done = subprocess.run(
        [sys.executable, "-c", whole, path, str(150 << 20)], capture_output=True, text=True, timeout=900
    )
    assert "MemoryError" in done.stderr


def _folder(path: Path, *, colour: bool) -> Path:
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        for number in range(12):
            shape = (40, 48, 3) if colour and number % 3 == 0 else (40, 48)
            png(path / label / f"{number}.png", random.integers(0, 256, shape).astype(np.uint8))
    return path


@pytest.mark.parametrize("form", ["uint8", "int32", "float64", "fortran", "grey folder", "mixed folder"])
def test_arrays_in_files_equal_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    given = {name: value for name, value in arrays().items() if name.endswith("images")}
    match form:
        case "int32":
            given = {name: value.astype(np.int32) * 300 for name, value in given.items()}
        case "float64":
            given = {name: value.astype(np.float64) / 255 for name, value in given.items()}
        case "fortran":
            given = {name: np.asfortranarray(value) for name, value in given.items()}
    path = _folder(tmp_path / "own", colour=form[0] == "m") if "folder" in form else npz(tmp_path / "own.npz", **given)
    small = datasets.load(path)
    inputs = Preprocessing.fit(small.train.images, size=16, channels=3).apply(small.train.images)
    for module in (scratch, gather):
        monkeypatch.setattr(module, "IN_MEMORY", 100)
    monkeypatch.setattr(scratch, "BLOCK", 1000)
    large = datasets.load(path)
    assert large.digest == small.digest
    assert large.notes == small.notes
    assert _is_mapped(large.train.images)
    assert not _is_mapped(small.train.images)
    again = Preprocessing.fit(large.train.images, size=16, channels=3).apply(large.train.images)
    assert _is_mapped(again)
    np.testing.assert_array_equal(again, inputs)


def _is_mapped(array: NDArray[Any]) -> bool:
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    return isinstance(base, np.memmap)


def _write_member(path: Path, name: str, content: bytes) -> None:
    """Write a set in which one member is replaced by other bytes."""
    whole = npz(path.with_name("whole.npz"))
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, content if info.filename == name else old.read(info))


@pytest.mark.parametrize("shape", ["(1000000000, 224, 224)", "(23, 16, 16)", "(-1, 16, 16)"])
def test_member_that_contradicts_its_header_is_refused_before_space_is_taken(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24 * 16 * 16)
    _write_member(tmp_path / "own.npz", "train_images.npy", content)
    with pytest.raises(BadLayout, match=r"cannot be read as an \.npz data set"):
        datasets.load(tmp_path / "own.npz")


@pytest.mark.parametrize("compressed", [True, False])
def test_flipped_bit_in_images_is_found(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "own.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("train_images.npy")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 200 + info.compress_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadLayout, match=r"cannot be read as an \.npz data set"):
        datasets.load(path)


def test_no_space_for_the_temporary_file_gives_one_line(tmp_path: Path) -> None:
    """The error is the kernel's: RLIMIT_FSIZE refuses a file of that length."""
    script = (
        "import resource, models.images.scratch as scratch; from he_infer.terminal import explain\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: scratch.reserve_array((100, 1 << 20), 'u1')\n"
        "except OSError as error: print(explain(error))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"TMPDIR": str(tmp_path)}, timeout=300
    )
    assert done.stdout == (
        f"There is no space left for a temporary file of 0.1 GB in {tmp_path} (TMPDIR names the folder). Free some, or "
        "write elsewhere.\n"
    ), done.stderr
    assert not list(tmp_path.iterdir())
