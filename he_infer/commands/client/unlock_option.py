"""Opens a key file for all commands: by passphrase, token or keyring.

The first possible way is used: a passphrase from a file or the environment; a PKCS#11 token, if HE_INFER_PKCS11_MODULE
names its library and the file has such a wrapping; the system's keyring, if the file has such a wrapping; a prompt.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from he_infer.commands.passphrase_option import VARIABLE, get_passphrase

if TYPE_CHECKING:
    from he_infer.client.keys.wrappings.wrapping import Unlock

MODULE_VARIABLE = "HE_INFER_PKCS11_MODULE"
PIN_VARIABLE = "HE_INFER_PKCS11_PIN"


def get_unlock(key_file: Path, passphrase_file: Path | None) -> "Unlock":
    """Choose the way to open this key file.

    Raises:
        UsageError: a passphrase is needed, and there is no terminal to ask at.
        NotThisFormat, UnsupportedVersion, Truncated: it is no key file of this release.
        OSError: a file cannot be read.
    """
    from he_infer.client.keys.key_file import read_wrappings
    from he_infer.client.keys.wrappings.passphrase import PassphraseUnlock

    wrappings = read_wrappings(key_file)
    kinds = {wrapping.kind for wrapping in wrappings}
    if passphrase_file is None and VARIABLE not in os.environ:
        module = os.environ.get(MODULE_VARIABLE)
        if module and "token" in kinds:
            from he_infer.client.keys.wrappings.token import Token, TokenUnlock, choose_token

            token = choose_token(Path(module), [wrapping for wrapping in wrappings if wrapping.kind == "token"])
            return TokenUnlock(Token(Path(module), token.text("token"), get_pin(None), token.text("key")))
        if "keyring" in kinds:
            from he_infer.client.keys.wrappings.system_keyring import KeyringUnlock

            return KeyringUnlock()
    return PassphraseUnlock(get_passphrase(passphrase_file, confirm=False))


def get_pin(pin_file: Path | None) -> str:
    """Read a token's PIN from a file of mode 0600, the environment or a prompt."""
    return get_passphrase(pin_file, confirm=False, variable=PIN_VARIABLE, option="--pin-file", name="PIN of the token")
