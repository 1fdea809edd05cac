"""The wrapping under the system's keyring: Secret Service, macOS Keychain or Windows Credential Locker.

The keyring stores a random 32-byte secret that opens only this wrapping of this key file. Every program of the
logged-in user can open the key file without a prompt; a copy of the file on another machine does not open this way.
"""

import contextlib
import secrets
from dataclasses import dataclass

import keyring
from keyring.errors import KeyringError, PasswordDeleteError

from he_infer.client.keys.wrappings.wrapping import KEY_BYTES, Wrapping, unwrap, wrap
from he_infer.errors import KeyProblem, WrongPassphrase

SERVICE = "he-infer"


@dataclass(frozen=True)
class KeyringUnlock:
    """Opens with the keyring of the current user."""

    kind: str = "keyring"

    def open(self, wrapping: Wrapping) -> bytes:
        try:
            stored = keyring.get_password(SERVICE, wrapping.text("entry"))
        except KeyringError as error:
            raise _unusable(error) from error
        complaint = "The system's keyring has no entry that opens it: it was wrapped on another machine or account."
        if stored is None:
            raise WrongPassphrase(complaint)
        try:
            secret = bytes.fromhex(stored)
        except ValueError as error:
            raise WrongPassphrase(complaint) from error
        return unwrap(secret, wrapping, complaint=complaint)


def wrap_with_keyring(key: bytes, label: str = "") -> Wrapping:
    """Wrap a key-encryption key, and store the secret that opens it in the keyring.

    Raises:
        KeyProblem: there is no keyring, or it is locked.
    """
    secret, entry = secrets.token_bytes(KEY_BYTES), secrets.token_hex(16)
    try:
        keyring.set_password(SERVICE, entry, secret.hex())
    except KeyringError as error:
        raise _unusable(error) from error
    return Wrapping("keyring", {"entry": entry, "wrapped": wrap(secret, key)}, label)


def forget(wrapping: Wrapping) -> None:
    """Delete a removed wrapping's secret from the keyring, if it exists."""
    with contextlib.suppress(PasswordDeleteError, KeyringError):
        keyring.delete_password(SERVICE, wrapping.text("entry"))


def _unusable(error: Exception) -> KeyProblem:
    return KeyProblem(
        f"The system's keyring cannot be used ({type(error).__name__}): this session has none, or it is locked. "
        "Log in to a desktop session, or open the key file with its passphrase."
    )
