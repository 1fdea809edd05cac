"""Services beside the watcher: the storage SCP and `/healthz`."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from he_infer.client.pacs.listener import ListenerSettings
from he_infer.client.pacs.listening import Listening
from he_infer.client.pacs.watch.health import Health


class Service:
    """Context manager: starts the storage SCP and `/healthz`, and ends both on leaving.

    Args:
        listener: settings of the storage SCP; None: do not start it.
        health: the `/healthz` server; None: do not start it.
    """

    def __init__(self, listener: ListenerSettings | None, health: Health | None) -> None:
        self._listening = Listening(listener) if listener is not None else None
        self._title = listener.title if listener is not None else ""
        self._health = health
        self._stack = ExitStack()
        self.said: list[str] = []
        """Lines to show in the terminal."""

    def __enter__(self) -> Self:
        if self._health is not None:
            self._stack.enter_context(self._health)
            self.said.append(f"/healthz answers on 127.0.0.1:{self._health.port}.")
        if self._listening is not None:
            self._stack.enter_context(self._listening)
            self.said.append(f"{self._title} receives images on port {self._listening.port}.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def keep_up(self) -> None:
        """Restart the storage SCP if it has ended.

        Raises:
            ArchiveUnreachable: the storage SCP does not start.
        """
        if self._listening is not None:
            self._listening.keep_up()
