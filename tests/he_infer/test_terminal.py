"""Expected errors give one line and exit code 1; defects keep their traceback."""

import pytest
import typer

from he_infer import terminal as console
from he_infer.errors import WrongPassphrase


def _app(error: Exception) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def fail() -> None:
        raise error

    return app


def _run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["he-infer"])
    with pytest.raises(SystemExit) as stopped:
        console.run(_app(error))
    return stopped.value.code


def test_expected_error_gives_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(WrongPassphrase("The key file [k] does not open:\n try again."), monkeypatch) == 1
    captured = capsys.readouterr()
    assert captured.err == "error: The key file [k] does not open: try again.\n"
    assert captured.out == ""


def test_missing_file_gives_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(FileNotFoundError(2, "No such file or directory", "scan.dcm"), monkeypatch) == 1
    assert capsys.readouterr().err == "error: There is no file or folder scan.dcm. Check the path, or make it first.\n"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(ModuleNotFoundError("No module named 'torch'", name="torch"), monkeypatch) == 1
    assert "he-infer[train]" in capsys.readouterr().err


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["he-infer"])
    with pytest.raises(ZeroDivisionError):
        console.run(_app(ZeroDivisionError()))


def test_ctrl_c_gives_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["he-infer"])
    app = typer.Typer()

    @app.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        console.run(app)
    assert stopped.value.code == 130
