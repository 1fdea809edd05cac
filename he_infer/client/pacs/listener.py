"""A storage SCP in a process of its own: receives images by the DICOM protocol and puts them into a spool.

    python -m he_infer.client.pacs.listener < settings.json

This process parses untrusted bytes. Therefore it holds no key and no token, has limits on memory and file size, and is
restarted by the watcher when it ends. It ends when its standard input closes, that is, with its parent.
"""

import json
import logging
import os
import shutil
import socketserver
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydantic import TypeAdapter
from pydicom.dataset import Dataset
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, _config, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.transport import ThreadedAssociationServer

from he_infer.client.pacs.entries import ImageEntry
from he_infer.client.pacs.watch.spool import INCOMING, Spool

VERIFICATION = "1.2.840.10008.1.1"
"""SOP class of C-ECHO."""
SUCCESS, OUT_OF_RESOURCES, NOT_THIS_CLASS, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
_LONGEST_UID, _LONGEST_TEXT = 64, 64
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_NETWORK_SECONDS = 60
_MEMORY = 3 * 2**30
_WANTED = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "BodyPartExamined",
    "SeriesDescription", "StudyDescription",
]  # fmt: skip


@dataclass(frozen=True)
class ListenerSettings:
    """Settings of the storage SCP."""

    spool: str
    host: str = "127.0.0.1"
    port: int = 11112
    title: str = "HE_INFER"
    """AE title of the storage SCP; a peer that calls another title is rejected."""
    peers: tuple[str, ...] = ()
    """AE titles that may send; none means any."""
    addresses: tuple[str, ...] = ("127.0.0.1",)
    """IP addresses that may connect."""
    most_bytes: int = 512 * 2**20
    """Maximum size of one object, bytes."""
    most_objects: int = 20_000
    """Maximum number of objects in the spool; further objects are refused as out of resources until it is emptied."""
    most_associations: int = 8
    least_free_bytes: int = 2**30


class _Server(ThreadedAssociationServer):
    """TCP server that refuses other addresses before a byte is read."""

    addresses: frozenset[str] = frozenset()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return client_address[0] in self.addresses


class Listener:
    """The storage SCP. `serve` returns when `stop` is called."""

    def __init__(self, settings: ListenerSettings) -> None:
        self._settings = settings
        self._spool = Spool(Path(settings.spool))
        self._received: dict[int, int] = {}
        self._incoming = self._spool.folder / INCOMING
        for path in self._incoming.iterdir():
            path.unlink()
        tempfile.tempdir = str(self._incoming)
        _config.STORE_RECV_CHUNKED_DATASET = True
        _config.LOG_HANDLER_LEVEL = "none"
        entity = AE(ae_title=settings.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.peers)
        entity.maximum_associations = settings.most_associations
        entity.network_timeout, entity.acse_timeout, entity.dimse_timeout = _NETWORK_SECONDS, 15, _NETWORK_SECONDS
        entity.add_supported_context(VERIFICATION)
        for context in AllStoragePresentationContexts:
            if context.abstract_syntax is not None:
                entity.add_supported_context(context.abstract_syntax, list(AllTransferSyntaxes))
        handlers: Sequence[Any] = [
            (evt.EVT_C_STORE, self._store), (evt.EVT_PDU_RECV, self._count), (evt.EVT_CONN_CLOSE, self._forget),
        ]  # fmt: skip
        self._server = entity.make_server(
            (settings.host, settings.port), evt_handlers=list(handlers), server_class=_Server
        )
        _Server.addresses = frozenset(settings.addresses)
        self.port = int(self._server.server_address[1])

    def serve(self) -> None:
        """Accept associations."""
        socketserver.TCPServer.serve_forever(self._server, poll_interval=0.2)

    def stop(self) -> None:
        """Stop serving; may be called from another thread."""
        self._server.shutdown()
        self._server.server_close()

    def _count(self, event: evt.Event) -> None:
        """Abort an association that sends an object above the size limit; counts the bytes of P-DATA."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        key = id(event.assoc)
        arrived = sum(len(item.presentation_data_value or b"") for item in event.pdu.presentation_data_value_items)
        self._received[key] = self._received.get(key, 0) + arrived
        if self._received[key] > self._settings.most_bytes:
            self._received[key] = 0
            event.assoc.abort()

    def _forget(self, event: evt.Event) -> None:
        """Remove incomplete files of an ended association: all if no other is open, otherwise only stale ones."""
        self._received.pop(id(event.assoc), None)
        others = [assoc for assoc in self._server.active_associations if assoc is not event.assoc]
        fresh = time.time() - 2 * _NETWORK_SECONDS
        for path in self._incoming.iterdir():
            with suppress(OSError):
                if not others or path.stat().st_mtime < fresh:
                    path.unlink()

    def _store(self, event: evt.Event) -> int:
        self._received[id(event.assoc)] = 0
        path = Path(event.dataset_path)
        try:
            if self._is_full():
                return OUT_OF_RESOURCES
            image = describe(path)
            if image is None:
                return CANNOT_UNDERSTAND
            if image.sop != str(getattr(event.request, "AffectedSOPInstanceUID", "")):
                return NOT_THIS_CLASS
            with path.open("rb") as file:
                os.fsync(file.fileno())
            self._spool.add(image, path)
        except OSError:
            return OUT_OF_RESOURCES
        finally:
            with suppress(OSError):
                path.unlink()
        return SUCCESS

    def _is_full(self) -> bool:
        objects, _ = self._spool.sizes()
        free = shutil.disk_usage(self._spool.folder).free
        return objects >= self._settings.most_objects or free < self._settings.least_free_bytes


def describe(path: Path) -> ImageEntry | None:
    """Read the attributes that a choice depends on; None if the file is no DICOM object with valid UIDs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_WANTED))
            study, series, sop = (str(dataset.get(name) or "") for name in _UIDS)
            words = f"{_text(dataset, 'StudyDescription')} {_text(dataset, 'SeriesDescription')}".strip()
            modality, body_part = _text(dataset, "Modality"), _text(dataset, "BodyPartExamined")
    except Exception:  # untrusted bytes: pydicom raises many kinds of errors
        return None
    if not all(UID(uid).is_valid and len(uid) <= _LONGEST_UID for uid in (study, series, sop)):
        return None
    return ImageEntry(study, series, sop, modality, body_part, words)


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "")[:_LONGEST_TEXT]


def _bound_resources(most_bytes: int) -> None:
    """Set the system's limits on memory and file size, if the system has them."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes + 2**20, most_bytes + 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def to_json(settings: ListenerSettings) -> bytes:
    """The settings as one line of JSON, for the process."""
    return json.dumps(asdict(settings)).encode() + b"\n"


def main() -> int:
    """Serve until standard input ends. The first line of standard output is the port."""
    settings = TypeAdapter(ListenerSettings).validate_json(sys.stdin.buffer.readline())
    _bound_resources(settings.most_bytes)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    try:
        listener = Listener(settings)
    except OSError as error:
        sys.stdout.write(f"error {error.strerror}\n")
        return 1
    sys.stdout.write(f"port {listener.port}\n")
    sys.stdout.flush()

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        listener.stop()

    threading.Thread(target=end_with_parent, daemon=True).start()
    listener.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
