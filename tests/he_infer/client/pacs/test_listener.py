"""The storage SCP as a process: correct senders, unknown senders, and peers that send invalid bytes."""

import os
import secrets
import signal
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association

from he_infer.client.pacs.listener import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS, ListenerSettings
from he_infer.client.pacs.listening import Listening
from he_infer.client.pacs.watch.health import Health
from he_infer.client.pacs.watch.journal import Journal, State
from he_infer.client.pacs.watch.spool import Spool, SpoolSource
from he_infer.client.pacs.watch.watcher import Status
from he_infer.errors import ArchiveUnreachable
from tests.he_infer.client.pacs.orthanc import CT, file_bytes, make_image


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ListenerSettings:
    spool = tmp_path_factory.mktemp("listener") / "spool"
    return ListenerSettings(str(spool), port=0, peers=("SCANNER",), most_bytes=200_000, least_free_bytes=0)


@pytest.fixture(scope="module")
def steady(settings: ListenerSettings) -> Iterator[Listening]:
    """One storage SCP for all peers, also those that send invalid bytes: it must survive them."""
    with Listening(settings) as running:
        yield running


@pytest.fixture
def listening(steady: Listening, settings: ListenerSettings) -> Listening:
    """The storage SCP with an empty spool."""
    spool = Spool(Path(settings.spool))
    for entry, _ in spool.entries():
        SpoolSource(spool).release(entry)
    assert spool.sizes() == (0, 0)
    return steady


def send(port: int, *datasets: Dataset, title: str = "SCANNER", called: str = "HE_INFER") -> list[int | None]:
    """Send objects. Returns the status of each, None if the association ended, or nothing if it was refused."""
    entity = AE(ae_title=title)
    entity.add_requested_context(CT, ExplicitVRLittleEndian)
    entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = 20
    association = entity.associate("127.0.0.1", port, ae_title=called)
    # An aborted sender leaves its socket to the collector, which would find it in some later test.
    connection = association.dul.socket
    with connection.socket if connection is not None and connection.socket is not None else nullcontext():
        return _send_each(association, datasets)


def _send_each(association: Association, datasets: Sequence[Dataset]) -> list[int | None]:
    if not association.is_established:
        return []
    statuses: list[int | None] = []
    for dataset in datasets:
        try:
            statuses.append(association.send_c_store(dataset).get("Status"))
        except RuntimeError:
            statuses.append(None)
    if association.is_established:
        association.release()
    association.join(20)
    return statuses


def image(**options: object) -> Dataset:
    made = make_image(generate_uid(), generate_uid(), **options)  # type: ignore[arg-type] - passed through
    return pydicom.dcmread(BytesIO(file_bytes(made)))


def test_sent_image_is_stored_unchanged_in_spool(listening: Listening, settings: ListenerSettings) -> None:
    sent = image(brightness=77)
    assert send(listening.port, sent, sent) == [SUCCESS, SUCCESS]
    spool = Spool(Path(settings.spool))
    ((entry, _),) = spool.entries()
    assert (entry.study, entry.sop, entry.modality) == (sent.StudyInstanceUID, sent.SOPInstanceUID, "CT")
    assert pydicom.dcmread(spool.file(entry.sop)).PixelData == sent.PixelData
    assert spool.file(entry.sop).stat().st_mode & 0o077 == 0


def test_stranger_and_wrong_title_are_rejected(listening: Listening) -> None:
    assert send(listening.port, image(), title="STRANGER") == []
    assert send(listening.port, image(), called="OTHER") == []


def test_address_that_is_not_allowed_is_refused(settings: ListenerSettings, tmp_path: Path) -> None:
    with Listening(replace(settings, spool=str(tmp_path), addresses=("192.0.2.1",))) as running:
        assert send(running.port, image()) == []


def test_object_beyond_bound_is_aborted_and_listener_lives(listening: Listening, settings: ListenerSettings) -> None:
    big = image()
    big.Rows = big.Columns = 512
    big.PixelData = bytes(512 * 512 * 2)
    assert send(listening.port, big) == [None]
    assert send(listening.port, image()) == [SUCCESS]
    assert Spool(Path(settings.spool)).sizes()[0] == 1
    until = time.monotonic() + 10
    while list((Path(settings.spool) / "incoming").iterdir()):
        assert time.monotonic() < until, "what was half sent is still there"
        time.sleep(0.05)


def test_full_spool_answers_out_of_resources(settings: ListenerSettings, tmp_path: Path) -> None:
    with Listening(replace(settings, spool=str(tmp_path), most_objects=1)) as running:
        assert send(running.port, image(), image()) == [SUCCESS, OUT_OF_RESOURCES]


def test_object_with_hostile_uid_is_refused_and_makes_no_path(listening: Listening, settings: ListenerSettings) -> None:
    hostile = image()
    hostile["StudyInstanceUID"]._value = "../../../../tmp/x"
    assert send(listening.port, hostile) == [CANNOT_UNDERSTAND]
    assert Spool(Path(settings.spool)).sizes()[0] == 0


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(1000),
        b"\x01\x00\xff\xff\xff\xff" + b"A" * 5000,
        b"\x04\x00\x00\x00\x00\x04\xff\xff\xff\xff",
        struct.pack(">BBI", 1, 0, 68) + bytes(68),
        secrets.token_bytes(4096),
    ],
    ids=["http", "zeros", "4-GB-PDU", "data-first", "empty-request", "random"],
)
def test_peer_that_sends_rubbish_leaves_listener_working(steady: Listening, rubbish: bytes) -> None:
    with socket.create_connection(("127.0.0.1", steady.port), timeout=5) as peer:
        peer.sendall(rubbish)
        peer.shutdown(socket.SHUT_WR)
        peer.settimeout(5)
        try:
            while peer.recv(4096):
                pass
        except (TimeoutError, ConnectionResetError):
            pass
    assert send(steady.port, image()) == [SUCCESS]
    assert not steady.keep_up()


def test_killed_listener_is_started_again_on_its_port(listening: Listening) -> None:
    port = listening.port
    os.kill(listening.pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while not listening.keep_up():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert listening.port == port
    assert send(port, image()) == [SUCCESS]


def test_taken_port_is_named(listening: Listening, settings: ListenerSettings, tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreachable, match=str(listening.port)):
        Listening(replace(settings, spool=str(tmp_path), port=listening.port)).__enter__()


def test_late_and_repeated_objects_in_spool_are_found_again(tmp_path: Path) -> None:
    spool, study = Spool(tmp_path / "spool"), generate_uid()
    source = SpoolSource(spool)

    def arrive(dataset: Dataset) -> str:
        from he_infer.client.pacs.listener import describe

        path = tmp_path / "arriving.dcm"
        path.write_bytes(file_bytes(dataset))
        entry = describe(path)
        assert entry is not None
        spool.add(entry, path)
        return entry.sop

    with Journal(tmp_path / "journal", "m") as journal:
        for _ in range(2):
            made = make_image(study, generate_uid())
            sop = arrive(made)
            source.look(journal, 0)
            (still,) = journal.still_studies(0, 0)
            size, images = source.images(still.study)
            assert journal.add_images(replace(still, instances=size), images, 0) == 1
            journal.finish(images[0], State.REPORTED, 0)
            source.release(images[0])
            assert not spool.file(sop).exists()
            arrive(made)  # sent a second time: it needs no report and is removed
            source.look(journal, 0)
            assert journal.still_studies(0, 0) == []
            assert spool.sizes() == (0, 0)


def test_health_answers_on_loopback_by_state_and_refuses_other_hosts() -> None:
    status = [Status("watching", counts={"waiting": 2})]
    with Health(0, lambda: status[0]) as health:
        url = f"http://127.0.0.1:{health.port}/healthz"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=5) as answer:
            assert answer.status == 200
            assert b'"waiting": 2' in answer.read()
        status[0] = Status("waiting", "The archive is away.")
        for address, headers, expected in (
            (url, {}, 503),
            (url, {"Host": "evil.example"}, 403),
            (url + "/../etc", {}, 404),
        ):
            with pytest.raises(urllib.error.HTTPError) as raised:
                opener.open(urllib.request.Request(address, headers=headers), timeout=5)
            assert raised.value.code == expected
            raised.value.close()
