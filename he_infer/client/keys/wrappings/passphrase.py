"""The wrapping under a passphrase: Argon2id and AES-256-GCM, in the format of `cipher.keys.passphrase`."""

from dataclasses import dataclass, field

from cipher.errors import BadKey, CipherError
from cipher.errors import WrongPassphrase as CipherWrongPassphrase
from cipher.keys import passphrase as sealing
from he_infer.client.keys.wrappings.wrapping import Wrapping
from he_infer.errors import NotThisFormat, UsageError, WrongPassphrase

PURPOSE = "he-infer key-encryption key"


@dataclass(frozen=True)
class PassphraseUnlock:
    """Opens with a passphrase."""

    passphrase: str = field(repr=False)
    kind: str = "passphrase"

    def open(self, wrapping: Wrapping) -> bytes:
        try:
            return sealing.open_(wrapping.blob("sealed"), self.passphrase, PURPOSE)
        except CipherWrongPassphrase as error:
            raise WrongPassphrase("this is not its passphrase.") from error
        except BadKey as error:
            raise UsageError(str(error)) from error
        except CipherError as error:
            raise NotThisFormat(f"The wrapping {wrapping.id} is damaged: {error}") from error


def wrap_with_passphrase(key: bytes, passphrase: str, label: str = "") -> Wrapping:
    """Wrap a key-encryption key.

    Raises:
        UsageError: the passphrase is empty.
    """
    try:
        return Wrapping("passphrase", {"sealed": sealing.seal(key, passphrase, PURPOSE).hex()}, label)
    except BadKey as error:
        raise UsageError(str(error)) from error
