"""What both command lines share: expected errors become one line, figures become JSON. Knows no command."""

import errno
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import typer
from rich.console import Console

# The error trees whose messages are written for users. Named rather than imported, so that a process which must not
# load a package (the server and `cipher`, say) does not do so in order to print an error.
_ERROR_TREES = ("he_infer.errors", "he_infer.wire.refusals", "cipher.errors", "models.errors", "experiments.errors")

# Modules that come with an extra of the distribution, and that extra.
_EXTRAS = {
    "tenseal": "client",
    "torch": "client",
    "httpx2": "client",
    "pydicom": "cipher",
    "sklearn": "client",
    "PIL": "client",
    "fastapi": "server",
    "uvicorn": "server",
    "sqlalchemy": "server",
    "obstore": "server",
    "alembic": "server",
    "psycopg": "postgres",
    "pebble": "server",
    "safetensors": "server",
    "matplotlib": "demo",
    "jinja2": "client",
    "scipy": "client",
}


def run(app: typer.Typer) -> None:
    """Run a typer app; never returns.

    Exit codes: 0 done, 1 an expected error (one line on standard error), 2 wrong usage, 130 interrupted. An error
    that nobody expected keeps its traceback, since it is a defect to report.
    """
    try:
        app()
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        Console(stderr=True, soft_wrap=True, highlight=False).print("[bold red]error:[/]", end=" ")
        print(line, file=sys.stderr)  # noqa: T201 - not through rich, which would read brackets in a path as markup
        sys.exit(1)


def explain(error: BaseException) -> str | None:
    """One line for an error that a user can mend; None for a defect."""
    if any(kind.__module__ in _ERROR_TREES for kind in type(error).__mro__):
        return " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is not None:
            return f"This command needs the package '{error.name}'. Install it with: pip install 'he-infer[{extra}]'"
        return None
    if isinstance(error, OSError) and error.strerror:
        return _explain_system(error)
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


def write_json(path: Path, figures: Mapping[str, object]) -> None:
    """Write figures as JSON, whole or not at all.

    Raises:
        OSError: the folder is missing or not writable.
    """
    write_text(path, json.dumps(dict(figures), indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all (a temporary file, then a rename).

    Raises:
        OSError: the folder is missing or not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
