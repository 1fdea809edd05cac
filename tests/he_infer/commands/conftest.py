"""A fresh folder to run commands in, and a tree to seal."""

import shutil
from pathlib import Path

import pytest

from he_infer import terminal as console
from he_infer.cli import app
from tests.cipher.packaged import packaged
from tests.he_infer.commands.running import WORDS, Run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `he-infer` in a fresh folder: exit code, output, errors. An unexpected exception passes through."""
    monkeypatch.setenv("HE_INFER_PASSPHRASE", WORDS)
    monkeypatch.setenv("HE_INFER_NEW_PASSPHRASE", "another " + WORDS)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["he-infer", *map(str, arguments)])
        code = 0
        try:
            console.run(app)
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small DICOM tree: plain, compressed, multi-frame, an index without pixels, and a text beside them."""
    top = tmp_path / "scans"
    for folder, name in (("a", "CT_small.dcm"), ("a/b", "JPEG2000.dcm"), ("", "rtdose.dcm"), ("", "DICOMDIR")):
        (top / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy2(packaged(name), top / folder / name)
    (top / "Müller [x] notes.txt").write_text("seen on Monday")
    (top / "empty").write_bytes(b"")
    return top
