"""State of the page: the options it was started with, and the client once the key file is unlocked."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from he_infer.client import doctor
from he_infer.client.client import Client
from he_infer.client.console.desk import Desk
from he_infer.client.console.history import PURPOSE, History
from he_infer.client.key_making import make_key_file
from he_infer.client.keys.key_file import KeyFile, read_wrappings
from he_infer.client.keys.wrappings.passphrase import PassphraseUnlock
from he_infer.client.keys.wrappings.wrapping import Unlock, Wrapping
from he_infer.client.model import ClientModel
from he_infer.client.pacs.archive.dicomweb import Archive
from he_infer.client.profiles import Profile
from he_infer.errors import HeInferError, UsageError

SHORTEST_PASSPHRASE = 8
Thing = TypeVar("Thing")


class Locked(UsageError):
    """The page is locked."""


@dataclass(frozen=True)
class Settings:
    """Options that the page was started with, or those of a profile that was chosen on it."""

    url: str
    """The server's address."""
    model: Path
    key: Path
    state: Path
    """Folder of the histories, mode 0700; each key file has one of its own."""
    connect: dict[str, Any] = field(repr=False)
    """Further arguments of `Client`, including the token."""
    archive: Archive | None = None
    vault_key: str = ""
    token_module: Path | None = None
    """PKCS#11 library of the token that may open the key file."""
    profile: str = ""
    """Name of the chosen profile; empty for the options of the command line."""


class Office:
    """State of the page: locked, or with an open client, a desk and a history."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._desk: Desk | None = None
        self._history: History | None = None

    @property
    def locked(self) -> bool:
        """Whether the key file is locked."""
        return self._client is None

    def wrappings(self) -> tuple[Wrapping, ...]:
        """The ways in which the key file opens; none if there is no key file yet.

        Raises:
            NotThisFormat, UnsupportedVersion, Truncated: the file is no key file of this release.
            OSError: it cannot be read.
        """
        return read_wrappings(self.settings.key) if self.settings.key.exists() else ()

    def choose_unlock(self, way: str, secret: str) -> Unlock:
        """Make the unlock of a form.

        Args:
            way: kind of wrapping: `passphrase`, `keyring` or `token`.
            secret: the passphrase, or the token's PIN.

        Raises:
            UsageError: the key file has no such wrapping, or the token's library is not known.
        """
        fitting = [each for each in self.wrappings() if each.kind == way]
        if not fitting:
            raise UsageError(f"The key file is not wrapped with a {way}.")
        if way == "keyring":
            from he_infer.client.keys.wrappings.system_keyring import KeyringUnlock

            return KeyringUnlock()
        if way == "token":
            from he_infer.client.keys.wrappings.token import Token, TokenUnlock, choose_token

            module = self.settings.token_module
            if module is None:
                raise UsageError(
                    "Name the token's PKCS#11 library in HE_INFER_PKCS11_MODULE, and start the page again."
                )
            wrapping = choose_token(module, fitting)
            return TokenUnlock(Token(module, wrapping.text("token"), secret, wrapping.text("key")))
        if way != "passphrase":
            raise UsageError("The page opens a key file by passphrase, keyring or token; use 'he-infer keys recover'.")
        return PassphraseUnlock(secret)

    def unlock(self, unlock: str | Unlock) -> None:
        """Open the key file and the history.

        Raises:
            WrongPassphrase and others: see `KeyFile.load`, `Client` and `History`.
        """
        settings = self.settings
        with self._lock:
            if self._client is not None:
                return
            client = Client(settings.url, model=settings.model, key=settings.key, passphrase=unlock, **settings.connect)
            try:
                key = client.keys.derive(PURPOSE)
                # A history for each key file: those of two departments may share the folder.
                history = History(settings.state / f"history-{hashlib.sha256(key).hexdigest()[:16]}", key)
            except BaseException:
                client.close()
                raise
            self._client, self._history, self._desk = client, history, Desk(history, client)

    def lock(self) -> None:
        """Close the key file and remove all images."""
        with self._lock:
            if self._desk is not None:
                self._desk.close()
            if self._client is not None:
                self._client.close()
            self._client = self._desk = self._history = None

    def make_keys(self, path: Path, passphrase: str, again: str) -> KeyFile:
        """Make a key file for this model, register its key set with this server, and prove it with test questions.

        Args:
            path: the new file. No file is overwritten.
            passphrase: the file's passphrase.
            again: the same passphrase, typed a second time.

        Raises:
            UsageError: the passphrases differ or are too short, or the file exists.
            Also what `make_key_file` raises.
        """
        if passphrase != again:
            raise UsageError("The two passphrases differ; type the same one twice.")
        if len(passphrase) < SHORTEST_PASSPHRASE:
            raise UsageError(f"The passphrase is too short; expected at least {SHORTEST_PASSPHRASE} characters.")
        if path.exists():
            raise UsageError(f"{path} exists; a key is never overwritten. Choose another name.")
        settings = self.settings
        return make_key_file(path, passphrase, server_url=settings.url, model=settings.model, **settings.connect).keys

    def rotate_keys(self, overlap_seconds: float) -> None:
        """Replace the secret keys by fresh ones.

        Raises:
            UsageError: a run is under way, or the page is locked.
            Also what `Client.rotate_keys` raises.
        """
        with self.desk.idle("keys cannot be rotated"):
            self.client.rotate_keys(overlap_seconds)

    def switch(self, profile: Profile) -> None:
        """Lock the page, and take server, model, key and token from a profile.

        Raises:
            UsageError: the profile is incomplete or names a file that is not there, apart from its key file.
            FormatError, OSError: the model or the token file cannot be read.
        """
        if profile.url is None or profile.bundle is None or profile.key is None or profile.token_file is None:
            raise UsageError(f"The profile '{profile.name}' needs url, bundle, key and token_file.")
        if missing := [entry for entry in profile.missing_files() if entry[0] != "key"]:
            raise UsageError(f"The profile '{profile.name}' names a file that is not there: {missing[0][1]}.")
        ClientModel.load(profile.bundle)
        token = profile.token_file.read_text(encoding="utf-8-sig").strip()
        connect = {
            **self.settings.connect,
            "token": token,
            "ca_file": profile.ca_file,
            "client_cert": profile.client_cert,
        }
        settings = replace(
            self.settings, url=profile.url, model=profile.bundle, key=profile.key, connect=connect, profile=profile.name
        )
        self.lock()
        self.settings = settings

    @property
    def client(self) -> Client:
        """The open client.

        Raises:
            Locked: the page is locked.
        """
        return _open(self._client)

    @property
    def desk(self) -> Desk:
        """The images on the page. Raises as `client` does."""
        return _open(self._desk)

    @property
    def history(self) -> History:
        """Past results. Raises as `client` does."""
        return _open(self._history)

    def checks(self) -> Iterator[doctor.Check]:
        """The checks of `he-infer doctor`, with the open key file, and the archive's where there is one."""
        client, archive = self.client, self.settings.archive
        yield from doctor.check_machine()
        yield doctor.check_secret_file(self.settings.key, "key file")
        yield from doctor.check_server(client.session, client.keys, client.model)
        if archive is not None:
            try:
                archive.count_images("2.25.0")
                yield doctor.Check("archive", "ok", f"{archive.url} answers")
            except HeInferError as error:
                yield doctor.Check("archive", "failed", " ".join(str(error).split()))


def _open(thing: Thing | None) -> Thing:
    if thing is None:
        raise Locked("The page is locked; unlock the key file first.")
    return thing
