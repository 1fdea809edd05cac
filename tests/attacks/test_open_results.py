"""What commands of the vault leave and say: files for their owner alone whatever the umask, and no escapes of names."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cipher.packaged import packaged
from tests.he_infer.commands.running import WORDS

HOSTILE = "\x1b[2J\u202egnp\x07"


def run(folder: Path, *words: str, status: int = 0) -> str:
    """Run a command under a umask that takes nothing away; returns all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "he_infer", *words],
        cwd=folder, env={**os.environ, "HE_INFER_PASSPHRASE": WORDS, "OMP_NUM_THREADS": "1"}, umask=0,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault of one sealed DICOM image, and of an object with a hostile name that is damaged."""
    folder = tmp_path_factory.mktemp("vault")
    (folder / "scans").mkdir()
    shutil.copy2(packaged("CT_small.dcm"), folder / "scans" / "ct.dcm")
    run(folder, "protect", "scans", "--to", "vault", "--form", "dicom", "--json", "protect.json")
    (made,) = (folder / "vault").glob("*.dcm")
    data = made.read_bytes()
    (folder / "vault" / f"{HOSTILE}.dcm").write_bytes(data[: len(data) // 2])
    return folder


@pytest.mark.parametrize(
    ("command", "status"), [("resolve", 1), ("inspect", 1), ("verify", 1), ("restore", 1), ("recipients", 1)]
)
def test_results_are_their_owners_alone_and_names_do_not_move_the_cursor(
    vault: Path, command: str, status: int
) -> None:
    target = ["--to", "back"] if command == "restore" else []
    said = run(vault, command, "vault", *target, "--json", f"{command}.json", status=status)
    assert all(line.isprintable() for line in said.splitlines())
    assert "\u202e" not in said
    for name in ("protect", command):
        assert (vault / f"{name}.json").stat().st_mode & 0o077 == 0
    if command == "resolve":
        assert json.loads((vault / "resolve.json").read_text())["objects"][0]["original"]["PatientID"]
