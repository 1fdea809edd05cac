"""Expected errors give one line and exit code 1; defects keep their traceback."""

import io
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import typer
from rich.console import Console

from he_infer import terminal as console
from he_infer.errors import WrongPassphrase
from he_infer.installation import install_command


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signal handlers as they were: `run` replaces them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
    assert capsys.readouterr().err.endswith(f"Install it with: {install_command('train')}\n")


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


@pytest.mark.parametrize("added", [True, False])
def test_table_folds_a_long_digest_instead_of_cutting_it(added: bool) -> None:
    table = console.PlainTable(*([] if added else ["check", "found"]))
    if added:
        table.add_column("check")
        table.add_column("found")
    digest = "".join(f"{number:03d}" for number in range(40))
    table.add_row("key", digest)
    out = io.StringIO()
    Console(file=out, width=40).print(table)
    assert digest in re.sub(r"[^0-9]", "", out.getvalue())


PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_IMPORTED = {
    "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "numba", "pydicom-data",
}  # fmt: skip
"""Packages that are looked for before use: codecs by pydicom, numba by the engines, images by the data set."""


def _names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {match[0].lower() for match in found if match} - {"he-infer"}


def test_every_package_of_an_extra_is_reported_with_an_extra_that_brings_it() -> None:
    extras = {name: _names(held) for name, held in PROJECT["optional-dependencies"].items()}
    modules: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for distribution in distributions:
            modules.setdefault(distribution.lower().replace("_", "-"), set()).add(module)
    product = ("server", "postgres", "client", "train", "pacs", "custody", "console", "cipher", "demo", "experiments")
    for extra in product:
        for package in extras[extra] - NOT_IMPORTED:
            held = modules.get(package, {package.replace("-", "_")}) & set(console._EXTRAS)
            assert held, f"{package} of the extra {extra} has no line in _EXTRAS"
            assert all(package in extras[console._EXTRAS[module]] for module in held), package


@pytest.mark.parametrize(
    ("absent", "command", "extra"),
    [
        ("torch", "train --data x.npz --out y.hebundle", "train"),
        ("onnx", "import x.onnx --data modality --out y.hebundle", "client"),
        ("tenseal", "keys show hospital.key", "client"),
        ("structlog", "serve x.server.hebundle", "server"),
        ("fastapi", "console --bundle x.client.hebundle --key k", "console"),
        ("matplotlib", "demo --out demo", "demo"),
    ],
)
def test_command_without_its_extra_names_it_in_one_line(absent: str, command: str, extra: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{absent!r}] = None; from he_infer.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code, *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1, found.stderr
    assert found.stderr.count("\n") == 1, found.stderr
    assert found.stderr.endswith(f"Install it with: {install_command(extra)}\n")


def test_completion_script_is_given_for_each_shell(tmp_path: Path) -> None:
    program = tmp_path / "he-infer"
    program.write_text("from he_infer.cli import main; main()")
    for shell in ("bash", "zsh", "fish"):
        asked = {"_HE_INFER_COMPLETE": f"source_{shell}"}  # what --show-completion asks for in the shell it finds
        found = subprocess.run(
            [sys.executable, program], env={**os.environ, **asked}, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stderr
        assert "_HE_INFER_COMPLETE" in found.stdout
    asked = {"_HE_INFER_COMPLETE": "complete_bash", "COMP_WORDS": "he-infer cl", "COMP_CWORD": "1"}
    found = subprocess.run(
        [sys.executable, program],
        env={**os.environ, **asked}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "classify" in found.stdout.split()


LINES = "import typer\nfrom he_infer import terminal\nfrom rich.console import Console\napp = typer.Typer()\n"
PRINTERS = {
    "typer": "[typer.echo('line') for _ in range(2000)]",
    "rich": "[terminal.make_console().print('line') for _ in range(2000)]",
    "a table": "terminal.make_console().print(table())",
    "print": "[print('line') for _ in range(2000)]",
    "little": "print('line')",
}


@pytest.mark.parametrize("printer", PRINTERS)
def test_command_whose_reader_goes_finishes_its_work_quietly(printer: str, tmp_path: Path) -> None:
    code = (
        f"{LINES}import pathlib\ndef table():\n    made = terminal.PlainTable('a')\n"
        "    [made.add_row('line') for _ in range(500)]\n    return made\n"
        "@app.command()\ndef lines(code: int = 0):\n"
        f"    {PRINTERS[printer]}\n    pathlib.Path('result').touch()\n    raise typer.Exit(code)\n"
        "terminal.run(app)"
    )
    assert _run_into_closed_pipe(["-c", code], tmp_path) == (console.CLOSED_PIPE, "")
    assert (tmp_path / "result").exists()
    if printer == "print":
        assert _run_into_closed_pipe(["-u", "-c", code], tmp_path) == (console.CLOSED_PIPE, "")
        assert _run_into_closed_pipe(["-c", code, "--code", "3"], tmp_path) == (3, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_command_after_its_cleanup(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        f"{LINES}import pathlib, time\n@app.command()\ndef wait():\n    try:\n        print('started', flush=True)\n"
        "        time.sleep(60)\n    finally:\n        pathlib.Path('cleaned').touch()\nterminal.run(app)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 128 + number
    assert (tmp_path / "cleaned").exists()


def test_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        _run(WrongPassphrase("no"), monkeypatch)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def _run_into_closed_pipe(arguments: list[str], folder: Path) -> tuple[int, str]:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, *arguments]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=folder, env=buffered
    ) as process:
        os.close(writing)
        said = process.communicate(timeout=120)[1]
    return process.returncode, said


@pytest.mark.parametrize("module", ["he_infer.cli", "experiments.cli"])
def test_help_whose_reader_goes_is_quiet(module: str, tmp_path: Path) -> None:
    code = f"from {module} import main; main()"
    assert _run_into_closed_pipe(["-c", code, "--help"], tmp_path) == (console.CLOSED_PIPE, "")


def test_a_full_disk_below_standard_output_gives_one_line() -> None:
    code = f"{LINES}@app.command()\ndef line():\n    print('line')\nterminal.run(app)"
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert found.returncode == 1
    assert found.stderr == "error: There is no space left for standard output. Free some, or write elsewhere.\n"


def test_closed_standard_output_is_no_error() -> None:
    code = f"{LINES}@app.command()\ndef line():\n    terminal.make_console().print('line')\nterminal.run(app)"
    found = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, code], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
