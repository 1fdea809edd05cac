"""A temporary folder whose path is too long for a socket, as clusters and build systems set it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import multiprocessing, os, tempfile
from {module} import shorten_socket_folder
if {shorten}:
    shorten_socket_folder()
if __name__ == "__main__":
    assert tempfile.gettempdir() == os.environ["TMPDIR"]
    process = multiprocessing.get_context("forkserver").Process(target=print, args=("worker ran",))
    process.start()
    process.join()
"""


@pytest.mark.parametrize("module", ["cipher.files.sockets", "he_infer.machine"])
@pytest.mark.parametrize("shorten", [True, False])
def test_fork_server_with_long_temporary_folder_starts(tmp_path: Path, module: str, shorten: bool) -> None:
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    folder.mkdir(parents=True)
    script = tmp_path / "script.py"
    script.write_text(CODE.format(module=module, shorten=shorten))
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    # Without the cure the fault must be there, or the test would prove nothing.
    assert ("worker ran" in done.stdout) == shorten, done.stderr
    assert ("AF_UNIX path too long" in done.stderr) != shorten
