"""Runs the tests with a real Orthanc in a separate network namespace, without access to other hosts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cipher.dicom.orthanc_scene import find_orthanc
from tests.he_infer.client.scene import PARTS_VARIABLE, share_model

ROOT = Path(__file__).parents[4]


def isolated() -> list[str]:
    """Command prefix for a separate network namespace; empty if the system does not allow one."""
    command = ["unshare", "--net", "--map-root-user"]
    if shutil.which(command[0]) is None:
        return []
    return command if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0 else []


@pytest.mark.skipif(find_orthanc() is None, reason="Debian's packages orthanc and orthanc-dicomweb are not installed")
@pytest.mark.parametrize("chosen", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_scenes_with_real_orthanc_pass(chosen: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    scenes = Path(__file__).with_name("archive_scenes.py")
    command = [*isolated(), sys.executable, "-m", "pytest", "-q", "-x", "-m", chosen, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--basetemp", str(tmp_path / "scenes"), str(scenes)],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
        env={**os.environ, PARTS_VARIABLE: str(share_model(tmp_path_factory))},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
