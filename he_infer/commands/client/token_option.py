"""Sources of the bearer token for all commands: a file or the environment, never an argument or a URL."""

import os
from pathlib import Path

from he_infer.client.connection.token import check_token
from he_infer.commands.passphrase_option import decode_secret
from he_infer.errors import UsageError

VARIABLE = "HE_INFER_TOKEN"


def get_token(file: Path | None) -> str:
    """Read the token from a file of mode 0600, or else from the environment variable HE_INFER_TOKEN.

    Raises:
        UsageError: there is neither, or others may read the file.
        NotThisFormat: the file or variable holds no token.
        OSError: the file cannot be read.
    """
    if file is not None:
        if file.stat().st_mode & 0o077:
            raise UsageError(f"{file} is open to other users; expected mode 0600. Run: chmod 600 {file}")
        text, place = decode_secret(file.read_bytes(), file).strip(), str(file)
    else:
        text, place = os.environ.get(VARIABLE, "").strip(), VARIABLE
        if not text:
            raise UsageError(f"No token: give --token-file, or set {VARIABLE}. The server's operator makes one.")
    return check_token(text, place)
