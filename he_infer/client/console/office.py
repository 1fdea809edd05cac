"""State of the page: the options it was started with, and the client once the key file is unlocked."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from he_infer.client.client import Client
from he_infer.client.console.desk import Desk
from he_infer.client.console.history import PURPOSE, History
from he_infer.client.keys.wrappings.wrapping import Unlock
from he_infer.client.pacs.archive.dicomweb import Archive
from he_infer.errors import HeInferError, UsageError

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Settings:
    """Options that the page was started with."""

    url: str
    """The server's address."""
    model: Path
    key: Path
    state: Path
    """Folder of the history, mode 0700."""
    connect: dict[str, Any]
    """Further arguments of `Client`, including the token."""
    archive: Archive | None = None
    vault_key: str = ""


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    ok: bool
    said: str


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
                history = History(settings.state / "history", client.keys.derive(PURPOSE))
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

    @property
    def client(self) -> Client:
        """The open client.

        Raises:
            UsageError: the page is locked.
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

    def checks(self) -> list[Check]:
        """Check the server step by step for everything that a run needs."""
        client = self.client

        def registered() -> str:
            sets = {(entry.plan, entry.key_set) for entry in client.session.key_sets() if entry.usable}
            missing = [p for p in client.keys.plans if p.needs_keys and (p.digest, client.keys.key_set) not in sets]
            if missing:
                raise UsageError(f"{len(missing)} plans lack keys; run 'he-infer keys register'.")
            return "all plans have their keys"

        def alive() -> str:
            client.session.healthz()
            return self.settings.url

        def archive_answers() -> str:
            if archive is None:
                return ""
            archive.count_images("2.25.0")
            return archive.url

        archive = self.settings.archive
        questions: list[tuple[str, Callable[[], str]]] = [
            ("server answers", alive),
            ("its signing key is the pinned one", lambda: client.session.server_key),
            ("it serves this model", lambda: client.served.id),
            ("evaluation keys are registered", registered),
        ]
        if archive is not None:
            questions.append(("archive answers", archive_answers))
        return [_check(name, ask) for name, ask in questions]


def _check(name: str, ask: Callable[[], str]) -> Check:
    try:
        return Check(name, True, ask())
    except HeInferError as error:
        return Check(name, False, " ".join(str(error).split()))


def _open(thing: Thing | None) -> Thing:
    if thing is None:
        raise UsageError("The page is locked; unlock the key file first.")
    return thing
