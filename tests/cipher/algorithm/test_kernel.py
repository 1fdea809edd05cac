"""A damaged cache of compiled code is made again and never ends the work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = """
import numpy as np
from cipher.algorithm.engine import by_name
half = np.arange(4096, dtype=np.uint16).reshape(64, 64)
print(np.array_equal(by_name("numba").measure(half, 64, 4), by_name("numpy").measure(half, 64, 4)))
"""


def run(cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("ending", "left"), [("nbi", 0), ("nbc", 40)])
def test_cut_cache_is_reported_and_rebuilt(ending: str, left: int, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    assert run(tmp_path).stdout == "True\n"
    files = list(tmp_path.rglob(f"*.{ending}"))
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:left])
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "is damaged" in done.stderr
    assert "is made again" in done.stderr
    again = run(tmp_path)
    assert (again.stdout, again.stderr) == ("True\n", "")
