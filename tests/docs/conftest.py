"""Fixture: the files that the pages' examples name, made by the commands of the pages themselves, and a server."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from he_infer.local_server import LocalServer
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
        with LocalServer([folder / "chest.server.hebundle"], cloud, options=["--workers", "1"]) as server:
            (folder / "cloud.token").touch(mode=0o600)
            (folder / "cloud.token").write_text(server.token)
            patch.setenv("HE_INFER_URL", server.url)
            run_statement("he-infer keys new hospital.key --bundle chest.client.hebundle --token-file cloud.token")
            yield Shelf(folder, server.url)


def _write_images(folder: Path) -> None:
    """Write data sets, images in DICOM form, and the records of docs/."""
    for name in ("chest", "pneumoniamnist", "breastmnist"):
        write_npz(folder / f"{name}.npz", classes=2)
    for name in ("scan.dcm", "scans/scan.dcm", "study/IM0001"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_dicom(folder / name, images(0, 1, 3)[0].repeat(10, axis=0).repeat(10, axis=1), "Case-7")
    (folder / "docs" / "images").mkdir(parents=True)
    shutil.copytree(ROOT / "docs" / "records", folder / "docs" / "records")
