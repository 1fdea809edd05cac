"""A fresh folder to run commands in."""

from pathlib import Path

import pytest

from he_infer import terminal as console
from he_infer.cli import app
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
