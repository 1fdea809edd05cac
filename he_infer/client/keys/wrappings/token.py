"""The wrapping under an RSA key in a PKCS#11 token or HSM, by RSA-OAEP (RFC 8017).

Wrapping needs only the public key. Unwrapping happens inside the token, which never exports its private key. The user
names the PKCS#11 library; it is never taken from the file, since a library is code.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pkcs11
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from pkcs11 import KeyType, Mechanism, ObjectClass

from he_infer.client.keys.wrappings.wrapping import Wrapping
from he_infer.errors import KeyProblem, WrongPassphrase

RSA_BITS = 3072
_HASHES: dict[str, tuple[hashes.HashAlgorithm, Mechanism, pkcs11.MGF]] = {
    "SHA-256": (hashes.SHA256(), Mechanism.SHA256, pkcs11.MGF.SHA256),
    # Some tokens support no other hash for OAEP. OAEP does not need collision resistance.
    "SHA-1": (hashes.SHA1(), Mechanism.SHA_1, pkcs11.MGF.SHA1),  # noqa: S303 - see above
}


@dataclass(frozen=True)
class Token:
    """A token's library, label, PIN and RSA key."""

    module: Path
    """The PKCS#11 library, such as `/usr/lib/softhsm/libsofthsm2.so`."""
    label: str
    """The token's label."""
    pin: str = field(repr=False)
    key_label: str = "he-infer"
    """Label of the RSA key in the token."""


@dataclass(frozen=True)
class TokenUnlock:
    """Opens with a token."""

    token: Token
    kind: str = "token"

    def open(self, wrapping: Wrapping) -> bytes:
        label, key_label = wrapping.text("token"), wrapping.text("key")
        if label != self.token.label:
            raise WrongPassphrase(f"It is wrapped with the token '{label}', not '{self.token.label}'.")
        with _session(self.token) as session:
            return _decrypt(_private_key(session, key_label), wrapping.text("hash"), wrapping.blob("wrapped"))


def wrap_with_token(key: bytes, token: Token, label: str = "", *, generate: bool = False) -> Wrapping:
    """Wrap a key-encryption key with the token's RSA key, and check that the token can unwrap it.

    Args:
        key: the key-encryption key.
        token: the token and its RSA key.
        label: description for the user.
        generate: make the RSA key in the token if it has none with that label.

    Raises:
        WrongPassphrase: the PIN is wrong.
        KeyProblem: there is no such token or key, or the key cannot decrypt.
    """
    with _session(token) as session:
        if generate and not list(session.get_objects({pkcs11.Attribute.LABEL: token.key_label})):
            session.generate_keypair(KeyType.RSA, RSA_BITS, store=True, label=token.key_label)
        public = _public_key(session, token.key_label)
        private = _private_key(session, token.key_label)
        for name, (algorithm, _, _) in _HASHES.items():
            scheme = padding.OAEP(padding.MGF1(algorithm), algorithm, None)
            wrapped = public.encrypt(key, scheme)
            try:
                if _decrypt(private, name, wrapped) == key:
                    data = {"token": token.label, "key": token.key_label, "hash": name, "wrapped": wrapped.hex()}
                    return Wrapping("token", data, label)
            except KeyProblem:
                continue
    raise KeyProblem(f"The key '{token.key_label}' in the token does not decrypt by RSA-OAEP; use another key.")


@contextmanager
def _session(token: Token) -> Iterator[Any]:
    """Open a session; turns every PKCS#11 error into an error of `he_infer.errors`."""
    library = _load(token.module)
    try:
        found = library.get_token(token_label=token.label)
        with found.open(user_pin=token.pin, rw=True) as session:
            yield session
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange) as error:
        raise WrongPassphrase("The token does not open under this PIN. Tokens lock after a few wrong ones.") from error
    except pkcs11.PinLocked as error:
        raise KeyProblem(
            "The token's PIN is locked after too many wrong ones. Unlock it with its own tools."
        ) from error
    except pkcs11.MultipleTokensReturned as error:
        raise KeyProblem(
            f"Several tokens have the label '{token.label}'. Unplug all but the right one, or give it another label "
            "with its own tools."
        ) from error
    except pkcs11.NoSuchToken as error:
        raise KeyProblem(
            f"There is no token '{token.label}'. Plug it in, or give its label as its tools show."
        ) from error
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
        raise KeyProblem(f"The token '{token.label}' cannot be used ({type(error).__name__}).") from error


def choose_token(module: Path, wrappings: Sequence[Wrapping]) -> Wrapping:
    """The first wrapping whose token is plugged in, else the first one: a file may have a card and a spare card.

    Args:
        module: the PKCS#11 library.
        wrappings: at least one, all of the kind `token`.

    Raises:
        KeyProblem: the library cannot be used.
    """
    try:
        present = {token.label for token in _load(module).get_tokens()}
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        raise KeyProblem(f"{module} does not list its tokens ({type(error).__name__}).") from error
    return next((each for each in wrappings if each.text("token") in present), wrappings[0])


def _load(module: Path) -> Any:
    if not module.is_file():
        raise KeyProblem(f"There is no PKCS#11 library {module}. Give the one that came with the token.")
    try:
        return pkcs11.lib(str(module))
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
        raise KeyProblem(f"{module} is no PKCS#11 library. Give the one that came with the token.") from error


def _public_key(session: Any, label: str) -> RSAPublicKey:
    try:
        found = session.get_key(object_class=ObjectClass.PUBLIC_KEY, key_type=KeyType.RSA, label=label)
    except (pkcs11.NoSuchKey, pkcs11.MultipleObjectsReturned) as error:
        raise _no_key(label) from error
    modulus, exponent = found[pkcs11.Attribute.MODULUS], found[pkcs11.Attribute.PUBLIC_EXPONENT]
    return RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()


def _private_key(session: Any, label: str) -> Any:
    try:
        return session.get_key(object_class=ObjectClass.PRIVATE_KEY, key_type=KeyType.RSA, label=label)
    except (pkcs11.NoSuchKey, pkcs11.MultipleObjectsReturned) as error:
        raise _no_key(label) from error


def _no_key(label: str) -> KeyProblem:
    return KeyProblem(f"The token has not exactly one RSA key pair labelled '{label}'. Make one with --generate.")


def _decrypt(private: Any, name: str, wrapped: bytes) -> bytes:
    if name not in _HASHES:
        raise KeyProblem(f"The wrapping asks for the hash '{name}', which this release does not know.")
    _, mechanism, mask = _HASHES[name]
    try:
        return bytes(
            private.decrypt(wrapped, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=(mechanism, mask, None))
        )
    except (pkcs11.PKCS11Error, ValueError) as error:
        raise WrongPassphrase("The token's key does not open it: the token was replaced, or its key.") from error
