"""The entry points of the command lines: an interrupt before a command runs."""

import sys
from pathlib import Path

import pytest

from he_infer.entry import run_command_line


@pytest.mark.parametrize(
    "source",
    ["raise KeyboardInterrupt", "def main():\n    raise KeyboardInterrupt"],
    ids=["while packages load", "while the command line is built"],
)
def test_ctrl_c_before_the_command_starts_gives_exit_code_130_without_a_traceback(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "interrupted_command_line.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "interrupted_command_line", raising=False)
    with pytest.raises(SystemExit) as stopped:
        run_command_line("interrupted_command_line")
    assert stopped.value.code == 130
    assert capsys.readouterr().err == ""
