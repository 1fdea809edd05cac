"""A real archive keeps sealed DICOM objects: stored, queried, fetched, restored."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cipher.dicom.recipient import Recipient
from cipher.keys.vault_key import VaultKey
from cipher.vault.forms import seal_path
from tests.cipher.dicom.orthanc_scene import find_orthanc
from tests.cipher.opening import read_sealed
from tests.cipher.packaged import packaged

ROOT = Path(__file__).parents[3]
KEY = VaultKey(bytes(range(32)))


def _isolated() -> list[str]:
    """Command that runs a program in a network namespace of its own; empty where the system does not allow it."""
    command = ["unshare", "--net", "--map-root-user"]
    if shutil.which(command[0]) is None:
        return []
    return command if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0 else []


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm"])
def test_orthanc_stores_finds_and_gives_back(name: str, tmp_path: Path) -> None:
    if find_orthanc() is None:
        pytest.skip("Orthanc with its DICOMweb plugin (Debian: orthanc, orthanc-dicomweb) is not installed")
    sealed = tmp_path / "sealed.dcm"
    seal_path(packaged(name), sealed, KEY, "dicom", recipients=[Recipient.generate().certificate])
    command = [*_isolated(), sys.executable, "-m", "tests.cipher.dicom.orthanc_scene", str(sealed), str(tmp_path)]
    scene = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    log = tmp_path / "orthanc.log"
    assert scene.returncode == 0, scene.stderr + (log.read_text(errors="replace") if log.exists() else "")
    said = json.loads(scene.stdout)
    assert (said["stored"], said["failed"]) == (1, 0)
    assert (said["studies_found"], said["instances_of_patient_found"]) == (1, 1)
    assert said["preview_is_png"]
    for fetched in ("wado.dcm", "rest.dcm"):
        assert (tmp_path / fetched).read_bytes() == sealed.read_bytes()
        assert read_sealed(tmp_path / fetched, KEY) == packaged(name).read_bytes()
