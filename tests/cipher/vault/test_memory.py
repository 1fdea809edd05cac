"""Large files pass through in bounded memory, in a process of their own so that its peak can be read."""

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = """
    import resource, sys
    from cipher.container.api import Options, PixelSpan, open_file, seal_bytes, open_bytes, seal_file
    from cipher.keys.vault_key import VaultKey

    plain, sealed, back, frames = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    key = VaultKey(bytes(32))
    open_bytes(seal_bytes(bytes(5000), key, span=PixelSpan(0, 5000, "<u2", (50, 50))), key)  # numba compiles
    resting = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    span = PixelSpan(132, frames * 2 * 1024 * 1024, "<u2", (frames, 1024, 1024))
    seal_file(plain, sealed, key, span=span)
    open_file(sealed, back, key)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resting) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak as Linux counts it")
@pytest.mark.parametrize("frames", [pytest.param(45, id="90 MB"), pytest.param(512, id="1 GB", marks=pytest.mark.slow)])
def test_a_multi_frame_file_is_sealed_and_restored_in_bounded_memory(frames: int, tmp_path: Path) -> None:
    plain, back = tmp_path / "plain", tmp_path / "back"
    frame = os.urandom(2**21)
    with plain.open("wb") as handle:
        handle.write(bytes(132))
        for number in range(frames):
            handle.write(number.to_bytes(4, "little") + frame[4:])
        handle.write(b"after the pixels")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE), str(plain), str(tmp_path / "sealed"), str(back), str(frames)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 160, "MiB above the resting process: a chunk is 16, and some of its copies"
    with plain.open("rb") as one, back.open("rb") as other:
        assert hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
