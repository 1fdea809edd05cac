"""Fixture: the files that the pages' examples name, made by the commands of the pages themselves, and a server."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from he_infer.head.bundle_file import BundleFile
from he_infer.local_server import LocalServer
from models.feature_model import FeatureModel
from models.images.load import load_image
from tests.docs.blocks import ROOT, read_blocks, read_statements
from tests.docs.commands import run_statement
from tests.e2e.kit import WORDS, images, write_dicom, write_npz

URL = "https://cloud.example:8443"
"""The server's address in all examples; the running server's address takes its place."""


@dataclass(frozen=True)
class Shelf:
    """A folder with one copy of each file that examples name, and the server's address."""

    folder: Path
    url: str

    def fill(self, folder: Path) -> None:
        """Put copies of all files into a page's folder."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


def run_page(name: str, number: int) -> None:
    """Run the shell block of this number on a page, in the current folder."""
    blocks = [block for block in read_blocks(ROOT / "docs" / name) if block.language == "sh"]
    for statement in read_statements(blocks[number].text.replace(URL, "")):
        run_statement(statement)


@pytest.fixture
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Train, publish, serve and make keys for one test, with a small set of shapes as `chest.npz`."""
    folder, cloud = tmp_path_factory.mktemp("shelf"), tmp_path_factory.mktemp("cloud")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HE_INFER_PASSPHRASE", WORDS)
        patch.setenv("HE_INFER_NEW_PASSPHRASE", WORDS)
        _write_images(folder)
        run_page("publish.md", 0)
        for part in (folder / "published").iterdir():
            shutil.copy(part, folder)
        _write_scans(folder)
        with LocalServer([folder / "chest.server.hebundle"], cloud, options=["--workers", "1"]) as server:
            (folder / "cloud.token").touch(mode=0o600)
            (folder / "cloud.token").write_text(server.token)
            patch.setenv("HE_INFER_URL", server.url)
            run_statement("he-infer keys new hospital.key --bundle chest.client.hebundle --token-file cloud.token")
            yield Shelf(folder, server.url)


def _write_images(folder: Path) -> None:
    """Write data sets, an image in DICOM form, and the records of docs/."""
    for name in ("chest", "pneumoniamnist", "breastmnist"):
        write_npz(folder / f"{name}.npz", classes=2)
    (folder / "ultrasound").mkdir()
    for name, side in (("scan.dcm", 280), ("ultrasound/IM0001", 640)):
        write_dicom(folder / name, np.resize(images(0, 1, 3)[0], (side, side)), "Case-7")
    (folder / "docs" / "images").mkdir(parents=True)
    shutil.copytree(ROOT / "docs" / "records", folder / "docs" / "records")


def _write_scans(folder: Path) -> None:
    """Write a training image that the model does not refuse as unlike its training images."""
    part = folder / "chest.client.hebundle"
    model, scan = FeatureModel.from_file(part, BundleFile.load(part)), folder / "study" / "IM0001"
    scan.parent.mkdir()
    for pixels in images(0, 40, 0):
        write_dicom(scan, pixels, "Case-7")
        if model.judge(model.features([load_image(scan)]))[0].accepted:
            break
    (folder / "scans").mkdir()
    shutil.copy(scan, folder / "scans" / "scan.dcm")
