"""Terminal output of both command lines: expected errors become one line, long work shows a bar. Knows no command."""

import errno
import io
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

# The error trees whose messages are written for users. Named rather than imported, so that a process which must not
# load a package (the server and `cipher`, say) does not do so in order to print an error.
_ERROR_TREES = ("he_infer.errors", "he_infer.wire.refusals", "cipher.errors", "models.errors", "experiments.errors")

# Modules that come with an extra of the distribution, and that extra.
_EXTRAS = {
    "tenseal": "client",
    "torch": "train",
    "httpx2": "client",
    "pydicom": "cipher",
    "sklearn": "train",
    "PIL": "client",
    "fastapi": "server",
    "uvicorn": "server",
    "sqlalchemy": "server",
    "obstore": "server",
    "alembic": "server",
    "psycopg": "postgres",
    "safetensors": "server",
    "pebble": "experiments",
    "matplotlib": "demo",
    "jinja2": "client",
    "scipy": "train",
    "onnx": "client",
    "onnxruntime": "client",
    "onnxscript": "train",
    "skl2onnx": "train",
    "highdicom": "pacs",
    "reportlab": "pacs",
    "dicomweb_client": "pacs",
    "pynetdicom": "pacs",
    "requests": "pacs",
    "platformdirs": "client",
    "structlog": "server",
    "prometheus_client": "server",
    "zstandard": "client",
    "multipart": "console",
    "keyring": "custody",
    "pkcs11": "custody",
    "shamir_mnemonic": "custody",
}


_KEPT_FORMATS = frozenset("\u200c\u200d")
"""Joiners that some scripts need within a name."""


def clean(text: object) -> str:
    """A text from outside as one line for a terminal: control characters, line breaks and direction marks are shown.

    Text from a server, a file's name or a DICOM header may hold sequences that move the cursor, hide what stands there
    or turn it round.
    """
    shown = []
    for character in " ".join(str(text).split()):
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        shown.append(f"\\x{ord(character):02x}" if hidden and character not in _KEPT_FORMATS else character)
    return "".join(shown)


class PlainTable(Table):
    """A table whose cells and title are plain text: brackets in a name are no markup, and nothing moves the cursor."""

    def __init__(self, *headers: Column | str, title: object = None, **options: Any) -> None:
        super().__init__(*headers, title=None if title is None else Text(clean(title)), **options)

    def add_row(self, *cells: object, **options: Any) -> None:
        """Add a row of texts, each shown as it is."""
        super().add_row(*(Text(clean(cell)) for cell in cells), **options)


def make_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that takes nothing for markup."""
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def use_any_encoding() -> None:
    """Let output to a terminal of another encoding than UTF-8 replace what it lacks, rather than end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Progress(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, total: int | None = None, label: str | None = None) -> None:
        """Show that `done` of `total` is done; what is None stays as it is."""
        ...


@contextmanager
def show_progress(
    label: str,
    total: int | None = None,
    *,
    unit: Literal["items", "bytes"] = "items",
    console: Console | None = None,
) -> Iterator[Progress]:
    """Show a progress bar with rate and time left while the context lasts; nothing where there is no terminal.

    Args:
        label: what is being done.
        total: how many items or bytes there are; None where a later call says so.
        unit: what is counted.
        console: where the bar is drawn; standard error by default, so that output can be piped.
    """
    # Loaded when it is used: it takes a tenth of a second, and most commands draw no bar.
    from rich import progress as bars

    screen = console or Console(stderr=True)
    counted = (bars.DownloadColumn(), bars.TransferSpeedColumn())
    columns = counted if unit == "bytes" else (bars.MofNCompleteColumn(),)
    described = bars.TextColumn("{task.description}", markup=False)
    with bars.Progress(
        described,
        bars.BarColumn(),
        *columns,
        bars.TimeRemainingColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    ) as drawn:
        task = drawn.add_task(label, total=total)

        def move(done: int, total: int | None = None, label: str | None = None) -> None:
            drawn.update(task, completed=done, total=total, description=label)

        yield move


def run(app: typer.Typer) -> None:
    """Run a typer app; never returns.

    Exit codes: 0 done, 1 an expected error (one line on standard error), 2 wrong usage, 130 interrupted. An error
    that nobody expected keeps its traceback, since it is a defect to report.
    """
    use_any_encoding()
    try:
        app()
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        Console(stderr=True, soft_wrap=True, highlight=False).print("[bold red]error:[/]", end=" ")
        print(line, file=sys.stderr)  # noqa: T201 - not through rich, which would read brackets in a path as markup
        sys.exit(1)


def require_packages(extra: str, names: Sequence[str]) -> None:
    """Refuse a command whose packages are not installed, before it starts a process that would end without a word.

    Raises:
        UsageError: one is missing; the text names the extra that brings it.
    """
    from importlib.util import find_spec

    from he_infer.errors import UsageError

    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"This command needs the package '{missing[0]}'. Install it with: pip install 'he-infer[{extra}]'"
        )


def explain(error: BaseException) -> str | None:
    """One line for an error that a user can mend; None for a defect."""
    if any(kind.__module__ in _ERROR_TREES for kind in type(error).__mro__):
        return clean(error)
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is not None:
            return f"This command needs the package '{error.name}'. Install it with: pip install 'he-infer[{extra}]'"
        return None
    if isinstance(error, OSError) and error.strerror:
        return clean(_explain_system(error))
    return None


def _explain_system(error: OSError) -> str:
    """What the system refused, and what can be done about it."""
    named = f"{error.filename}" if error.filename else "a file"
    match error:
        case FileNotFoundError():
            return f"There is no file or folder {named}. Check the path, or make it first."
        case PermissionError():
            return f"Access to {named} is denied: this user may not read or write it. Check its mode and owner."
        case IsADirectoryError():
            return f"{named} is a folder; expected a file."
        case NotADirectoryError():
            return f"{named} is below something that is not a folder. Check the path."
        case FileExistsError():
            return f"{named} exists already; choose another name, or remove it yourself."
        case _ if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"There is no space left for {named}. Free some, or write elsewhere."
        case _:
            where = f": {error.filename}" if error.filename else ""
            return f"{error.strerror}{where}"
