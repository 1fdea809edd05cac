"""Sources of the passphrase for all commands: a file, the environment or a prompt; never an argument."""

import codecs
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from he_infer.errors import UsageError

VARIABLE = "HE_INFER_PASSPHRASE"
SHORTEST = 8

PassphraseFile = Annotated[
    Path | None, typer.Option(help="File with the passphrase; else HE_INFER_PASSPHRASE, else a prompt.")
]


def get_passphrase(
    file: Path | None,
    confirm: bool,
    *,
    variable: str = VARIABLE,
    option: str = "--passphrase-file",
    name: str = "passphrase",
) -> str:
    """Read a passphrase from `file`, else from an environment variable, else from a prompt without echo.

    Args:
        file: a file whose first line is the passphrase, readable by its owner alone.
        confirm: ask twice at the prompt, and refuse a short passphrase; for new files.
        variable: the environment variable.
        option: name of the command's option for `file`, for messages.
        name: name of the secret, for the prompt and for messages.

    Raises:
        UsageError: there is no passphrase and no terminal to ask at, it is too short, or others may read the file.
        OSError: the file cannot be read.
    """
    if file is not None:
        if file.stat().st_mode & 0o077:
            raise UsageError(f"{file} is open to other users; expected mode 0600. Run: chmod 600 {file}")
        lines = decode_secret(file.read_bytes(), file).splitlines()
        passphrase = lines[0] if lines else ""
    elif variable in os.environ:
        passphrase = os.environ[variable]
    elif sys.stdin is not None and sys.stdin.isatty():  # it is None if the caller closed it
        passphrase = str(typer.prompt(name[0].upper() + name[1:], hide_input=True, confirmation_prompt=confirm))
    else:
        raise UsageError(f"No {name}: give {option}, set {variable}, or run this in a terminal.")
    if not passphrase:
        raise UsageError(f"The {name} is empty.")
    if any("\ud800" <= character <= "\udfff" for character in passphrase):
        raise UsageError(
            f"The {name} is not UTF-8 text: this terminal or {variable} has another encoding. Set LANG to a UTF-8 "
            f"locale, or give {option} with a UTF-8 file."
        )
    if confirm and len(passphrase) < SHORTEST:
        raise UsageError(f"The {name} is too short; expected at least {SHORTEST} characters.")
    return passphrase


def decode_secret(data: bytes, file: Path) -> str:
    """Decode a file with a secret: UTF-8, or UTF-16 with a byte order mark, which is removed.

    Raises:
        UsageError: the file has another encoding. A wrong guess would give another passphrase.
    """
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in marks.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text. Save it as UTF-8, for example with iconv -t UTF-8.") from error
