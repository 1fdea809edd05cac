"""The entry points of the command lines: an interrupt before a command runs."""

import subprocess
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


LOSES_IT = """
import os, signal, time, weakref
from he_infer.terminal import run
import typer

class Held:
    pass

def send(_):
    os.kill(os.getpid(), signal.{signal})
    time.sleep(0.01)

def lose():
    held = Held()
    reference = weakref.ref(held, send)
    del held
    time.sleep(20)
    print("went on")

{now}

def main():
    app = typer.Typer()
    app.command()(lose)
    run(app)
"""


@pytest.mark.parametrize(
    ("signal", "now", "code"),
    [("SIGINT", "lose()", 130), ("SIGINT", "", 130), ("SIGTERM", "", 143), ("SIGHUP", "", 129)],
    ids=["ctrl-c while packages load", "ctrl-c in a command", "SIGTERM in a command", "SIGHUP in a command"],
)
def test_signal_whose_exception_python_discards_still_ends_the_process(
    signal: str, now: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "loses_it.py").write_text(LOSES_IT.format(signal=signal, now=now))
    program = f"import sys; sys.path.append({str(tmp_path)!r}); from he_infer.entry import run_command_line as run; "
    found = subprocess.run([sys.executable, "-c", program + "run('loses_it')"], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (code, "", "")


TURNS_IT_INTO_AN_ERROR = """
import os, signal
from he_infer.terminal import run
import typer

class Broken:
    def __array__(self, *arguments, **options):
        os.kill(os.getpid(), signal.{signal})

def convert():
    import numpy as np
    from matplotlib import _path  # its C++ part discards what is raised within a conversion, as many do
    _path.affine_transform(np.zeros((3, 2)), Broken())

def main():
    app = typer.Typer()
    app.command()(convert)
    run(app)
"""


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signal_that_an_extension_module_turns_into_an_error_of_its_own_is_no_defect(
    signal: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "turns_it.py").write_text(TURNS_IT_INTO_AN_ERROR.format(signal=signal))
    program = f"import sys; sys.path.append({str(tmp_path)!r}); from he_infer.entry import run_command_line as run; "
    found = subprocess.run([sys.executable, "-c", program + "run('turns_it')"], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (code, "", "")


def test_other_errors_that_python_discards_are_still_reported(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(
        "class Held:\n    def __del__(self):\n        raise ValueError('seen')\n\ndef main():\n    Held()\n"
    )
    program = f"import sys; sys.path.append({str(tmp_path)!r}); from he_infer.entry import run_command_line as run; "
    found = subprocess.run([sys.executable, "-c", program + "run('fails')"], capture_output=True, text=True)
    assert found.returncode == 0
    assert "ValueError: seen" in found.stderr
