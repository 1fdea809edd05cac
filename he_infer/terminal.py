"""Terminal output of both command lines: one line for an expected error, progress bars, tables."""

import errno
import io
import os
import signal
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, Protocol

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

# The error trees whose messages are written for users. They are named, not imported, so that a process which must not
# load a package (the server and `cipher`, say) does not do so in order to print an error.
_ERROR_TREES = ("he_infer.errors", "he_infer.wire.refusals", "cipher.errors", "models.errors", "experiments.errors")

# Extra of the distribution that installs each module.
_EXTRAS = {
    "tenseal": "client",
    "torch": "train",
    "httpx2": "client",
    "pooch": "client",
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
    "tomlkit": "console",
    "keyring": "custody",
    "pkcs11": "custody",
    "shamir_mnemonic": "custody",
}


_KEPT_FORMATS = frozenset("\u200c\u200d")
"""Zero-width joiners, which some scripts need within names."""


def clean(text: object) -> str:
    """Escape an untrusted text to one line: control characters, line breaks and direction marks are shown.

    Text from a server, a file's name or a DICOM header may hold sequences that move the cursor, hide text or reverse
    it.
    """
    shown = []
    for character in " ".join(str(text).split()):
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        shown.append(f"\\x{ord(character):02x}" if hidden and character not in _KEPT_FORMATS else character)
    return "".join(shown)


class PlainTable(Table):
    """A table whose cells and title are plain text: no markup is read, and control characters are escaped.

    Long words are folded and never cut: digests and fingerprints are there to be compared.
    """

    def __init__(self, *headers: Column | str, title: object = None, **options: Any) -> None:
        super().__init__(*headers, title=None if title is None else Text(clean(title)), **options)
        for column in self.columns:
            column.overflow = "fold"

    def add_column(self, *arguments: Any, **options: Any) -> None:
        """Add a column, as `Table` does."""
        super().add_column(*arguments, **{"overflow": "fold", **options})

    def add_row(self, *cells: object, **options: Any) -> None:
        """Add a row of plain texts."""
        super().add_row(*(Text(clean(cell)) for cell in cells), **options)


def make_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Make a console that reads no text as markup."""
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def use_any_encoding() -> None:
    """Replace characters that the terminal's encoding lacks, instead of failing with an encoding error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Progress(Protocol):
    """Function that moves a progress bar."""

    def __call__(self, done: int, total: int | None = None, label: str | None = None) -> None:
        """Show that `done` of `total` is done; None leaves a value unchanged."""
        ...


@contextmanager
def show_progress(
    label: str,
    total: int | None = None,
    *,
    unit: Literal["items", "bytes"] = "items",
    console: Console | None = None,
) -> Iterator[Progress]:
    """Show a progress bar with rate and time left during the context; without a terminal show nothing.

    Args:
        label: name of the work.
        total: number of items or bytes; None if a later call states it.
        unit: unit of the count.
        console: console for the bar; standard error by default, so that output can be piped.
    """
    # Imported on use: the import takes a tenth of a second, and most commands draw no bar.
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


CLOSED_PIPE = 128 + signal.SIGPIPE
"""Exit code if the reader of standard output went (`he-infer --help | head`): that of a shell for a SIGPIPE."""


class _StandardOutput(io.FileIO):
    """Standard output that discards what nobody can read any more, so that a command still finishes its work.

    SIGPIPE would end the command before it has written its files, and where a server closes a connection.
    """

    failure: OSError | None = None
    """First error of a write."""

    def write(self, data: Any, /) -> int:
        """Write bytes. After the first error, all bytes are discarded."""
        if self.failure is None:
            try:
                return super().write(data) or 0
            except OSError as error:
                error.filename = "standard output"
                self.failure = error
        return memoryview(data).nbytes


def _replace_standard_output() -> _StandardOutput | None:
    """Replace `sys.stdout` by a stream that survives its reader; None where it is no file of the system."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        return None
    unbuffered = isinstance(stream.buffer, io.FileIO)  # PYTHONUNBUFFERED, or python -u
    if not unbuffered and not isinstance(getattr(stream.buffer, "raw", None), io.FileIO):
        return None
    stream.flush()
    output = _StandardOutput(stream.fileno(), "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        output if unbuffered else io.BufferedWriter(output),  # as Python itself does
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    return output


class _Ending:
    """Lets SIGTERM and SIGHUP end the program as Ctrl-C does (files and processes of its own are cleaned up).

    It remembers the signal: extension modules turn any exception within their conversions into an error of their own,
    which is then no defect of the program.
    """

    number: int | None = None
    """Signal that ends the program; None if there was none."""

    def __init__(self) -> None:
        self._process = os.getpid()
        for number, before in (
            (signal.SIGTERM, signal.SIG_DFL),
            (signal.SIGHUP, signal.SIG_DFL),
            (signal.SIGINT, signal.default_int_handler),
        ):
            if signal.getsignal(number) is before:  # nohup ignores one of them, for example
                signal.signal(number, self._end)

    def _end(self, number: int, frame: object) -> None:
        if os.getpid() != self._process and number != signal.SIGINT:
            # A forked process has nothing of its own to clean up.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number = number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)


def run(app: typer.Typer) -> None:
    """Run a typer app; never returns.

    Exit codes: 0 done, 1 an expected error (one line on standard error), 2 wrong usage, 130 interrupted, 129 and 143
    ended by SIGHUP and SIGTERM, 141 done, but the reader of the output went before its end. An unexpected error keeps
    its traceback, since it is a defect to report.
    """
    use_any_encoding()
    output = _replace_standard_output()
    ending = _Ending()
    try:
        _refuse_empty(sys.argv[1:])
        try:
            app()
        except SystemExit as stopped:
            if output is not None and not stopped.code:
                sys.stdout.flush()
                if isinstance(output.failure, BrokenPipeError):
                    sys.exit(CLOSED_PIPE)
                if output.failure is not None:
                    raise output.failure from None
            raise
    except Exception as error:
        if ending.number is not None:
            sys.exit(128 + ending.number)
        line = explain(error)
        if line is None:
            raise
        Console(stderr=True, soft_wrap=True, highlight=False).print("[bold red]error:[/]", end=" ")
        print(line, file=sys.stderr)  # noqa: T201 - rich would read brackets in a path as markup
        sys.exit(1)


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse an empty argument: as a path it would be the current folder, as a name one that nobody sees.

    Raises:
        UsageError: there is one; it stands for a variable of the shell that is not set, as a rule.
    """
    from he_infer.errors import UsageError

    for before, word in pairwise(("", *words)):
        if not word or (word.startswith("--") and word.endswith("=")):
            place = f" after {before}" if not word and before else f": {word}" if word else ""
            raise UsageError(
                f"An argument is empty{place}. Is a variable of the shell not set? Give a value, or leave it out."
            )


def require_packages(extra: str, names: Sequence[str]) -> None:
    """Refuse a command whose packages are not installed, before it starts a process that would fail without a message.

    Raises:
        UsageError: a package is missing; the message names the extra that installs it.
    """
    from importlib.util import find_spec

    from he_infer.errors import UsageError
    from he_infer.installation import install_command

    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(f"This command needs the package '{missing[0]}'. Install it with: {install_command(extra)}")


def explain(error: BaseException) -> str | None:
    """One line for an error that a user can fix; None for a defect."""
    if any(kind.__module__ in _ERROR_TREES for kind in type(error).__mro__):
        return clean(error)
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is not None:
            from he_infer.installation import install_command

            return f"This command needs the package '{error.name}'. Install it with: {install_command(extra)}"
        return None
    if isinstance(error, UnicodeEncodeError) and (words := [word for word in sys.argv[1:] if _is_undecodable(word)]):
        return f"An argument holds bytes that are not UTF-8: {clean(words[0])}. Expected a text in UTF-8."
    if isinstance(error, OSError) and error.strerror:
        return clean(_explain_system(error))
    return None


def _is_undecodable(word: str) -> bool:
    """Whether an argument holds bytes that Python could not decode, and keeps as surrogates."""
    return any("\udc80" <= character <= "\udcff" for character in word)


def _explain_system(error: OSError) -> str:
    """Message for an OSError: what the system refused, and what to do."""
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
