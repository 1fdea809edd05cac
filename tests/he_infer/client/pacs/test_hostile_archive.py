"""Archives that answer slowly, with HTML, with too much, for another study, or under another name."""

import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from he_infer.client.pacs.archive.bounded_http import open_session
from he_infer.client.pacs.archive.dicomweb import Archive, split_only_part
from he_infer.client.pacs.archive.orthanc import OrthancChanges
from he_infer.client.pacs.entries import ImageEntry
from he_infer.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable, UsageError
from tests.he_infer.client.pacs.orthanc import make_image

IMAGE = ImageEntry("1.2.3", "1.2.3.4", "1.2.3.4.5")
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_POST = do_GET  # noqa: N815 - the base class names it so

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore the error: a test refuses the handshake on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, body: bytes, kind: str, status: int = 200, length: int | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def html(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"<html><title>Please log in</title></html>", "text/html")


@pytest.mark.parametrize(
    "ask",
    [
        lambda archive, path: archive.studies(),
        lambda archive, path: archive.images("1.2.3"),
        lambda archive, path: archive.fetch(IMAGE, path),
        lambda archive, path: archive.store([make_image("1.2", "1.3")]),
        lambda archive, path: archive.store_file(Path(__file__)),
    ],
    ids=["studies", "images", "fetch", "store", "store-file"],
)
def test_html_in_place_of_dicom_is_refused(ask: Callable[[Archive, Path], object], tmp_path: Path) -> None:
    with (
        serving(html) as url,
        Archive(url) as archive,
        pytest.raises(ArchiveRefused, match=r"DICOMweb|confirms fewer"),
    ):
        ask(archive, tmp_path / "x.dcm")
    assert not list(tmp_path.iterdir())


def test_html_in_place_of_changes_means_no_changes() -> None:
    with serving(html) as url, Archive(url) as archive:
        assert OrthancChanges.find(archive) is None


def test_image_announced_with_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    def announce(handler: BaseHTTPRequestHandler) -> None:
        send(handler, b"x", 'multipart/related; type="application/dicom"; boundary=b', length=2 * 2**30)

    with serving(announce) as url, Archive(url) as archive, pytest.raises(ArchiveRefused, match="larger than"):
        archive.fetch(IMAGE, tmp_path / "x.dcm")


def test_image_without_announced_length_is_cut_at_bound(tmp_path: Path) -> None:
    sent = 0

    def pour(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Type", "application/dicom")
        handler.end_headers()
        for _ in range(2000):
            handler.wfile.write(bytes(1 << 20))
            sent += 1

    with serving(pour) as url, Archive(url, most_bytes=8 << 20) as archive:
        with pytest.raises(ArchiveRefused, match="larger than 8"):
            archive.fetch(IMAGE, tmp_path / "x.dcm")
        time.sleep(0.2)
    assert sent < 100


def test_archive_that_sends_a_byte_at_a_time_is_given_up() -> None:
    def dribble(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    with serving(dribble) as url, Archive(url, most_seconds=0.5) as archive:
        began = time.monotonic()
        with pytest.raises(ArchiveUnreachable, match="did not finish"):
            archive.studies()
        assert time.monotonic() - began < 10


def test_archive_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web"
        with Archive(url, most_seconds=0.3) as archive, pytest.raises(ArchiveUnreachable, match="in time"):
            archive.studies()


def test_archive_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        Archive(f"http://127.0.0.1:{port}/dicom-web") as archive,
        pytest.raises(ArchiveUnreachable, match="connection"),
    ):
        archive.studies()


@pytest.mark.parametrize(
    ("status", "kind"), [(401, ArchiveRefused), (404, ArchiveRefused), (500, ArchiveRefused), (503, ArchiveUnreachable)]
)
def test_error_status_is_named(status: int, kind: type[ArchiveError]) -> None:
    def fail(handler: BaseHTTPRequestHandler) -> None:
        send(handler, b"no", "text/plain", status)

    with serving(fail) as url, Archive(url) as archive, pytest.raises(kind, match=str(status)):
        archive.studies()


def test_redirect_elsewhere_is_not_followed() -> None:
    asked = []

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        send(handler, b"[]", "application/json")

    with serving(elsewhere) as other:

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", other)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with serving(redirect) as url, Archive(url) as archive, pytest.raises(ArchiveRefused, match="redirects"):
            archive.studies()
    assert not asked


def test_search_that_ignores_paging_ends() -> None:
    entries = [{"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in range(200)]

    def always_the_same(handler: BaseHTTPRequestHandler) -> None:
        send(handler, json.dumps(entries).encode(), "application/dicom+json")

    with serving(always_the_same) as url, Archive(url) as archive:
        assert len(archive.studies()) == 200


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", ""),
        (b"x", "multipart/related"),
        (b"--b\r\n\r\n", "multipart/related; boundary=b"),
        (b"--b\r\n\r\nxx\r\n--c--", "multipart/related; boundary=b"),
        (b"no mark at all", 'multipart/related; boundary="b"'),
    ],
)
def test_damaged_multipart_answer_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(ArchiveRefused):
        split_only_part(body, kind)


def test_part_of_multipart_answer_is_taken_whole_though_it_holds_line_ends() -> None:
    part = b"\r\n\r\n\x00--bb\r\n"
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n--b--\r\n"
    assert split_only_part(body, 'multipart/related; type="application/dicom"; boundary="b"') == part
    assert split_only_part(part, "application/dicom; transfer-syntax=1.2") == part


@pytest.mark.parametrize("uid", ["../../etc", "", "1." * 40 + "1", "01.2"])
def test_invalid_uid_in_answer_is_refused(uid: str) -> None:
    def bad(handler: BaseHTTPRequestHandler) -> None:
        send(handler, json.dumps([{"0020000D": {"vr": "UI", "Value": [uid]}}]).encode(), "application/dicom+json")

    with serving(bad) as url, Archive(url) as archive, pytest.raises(ArchiveRefused, match="StudyInstanceUID"):
        archive.studies()


def test_count_of_another_study_is_not_taken() -> None:
    entry = {"0020000D": {"vr": "UI", "Value": ["1.2.9"]}, "00201208": {"vr": "IS", "Value": [7]}}

    def other(handler: BaseHTTPRequestHandler) -> None:
        send(handler, json.dumps([entry]).encode(), "application/dicom+json")

    with serving(other) as url, Archive(url) as archive:
        assert archive.count_images("1.2.3") == 0


@pytest.mark.parametrize(
    "said",
    [
        {"Changes": [], "Last": 5},
        {"Changes": "x", "Last": 1, "Done": True},
        [],
        {"Changes": [], "Last": 0, "Done": False},
    ],
)
def test_strange_list_of_changes_is_refused(said: object) -> None:
    def strange(handler: BaseHTTPRequestHandler) -> None:
        send(handler, json.dumps(said).encode(), "application/json")

    with serving(strange) as url, Archive(url) as archive, pytest.raises(ArchiveRefused, match="changes"):
        OrthancChanges(archive, url).since(0)


def certificate_for(name: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    public = folder / f"{name}.crt"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return context, public


def empty(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"[]", "application/dicom+json")


def test_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    context, public = certificate_for("pacs.example", tmp_path)
    with (
        serving(empty, context) as url,
        Archive(url, ca_file=public) as archive,
        pytest.raises(ArchiveUnreachable, match="certificate"),
    ):
        archive.studies()


def test_certificate_of_own_authority_is_accepted_and_of_unknown_one_refused(tmp_path: Path) -> None:
    context, public = certificate_for("127.0.0.1", tmp_path)
    with serving(empty, context) as url:
        with Archive(url, ca_file=public) as archive:
            assert archive.studies() == []
        with Archive(url) as archive, pytest.raises(ArchiveUnreachable, match="--archive-ca"):
            archive.studies()


@pytest.mark.parametrize(
    "url", ["ftp://pacs/x", "pacs", "https://user:word@pacs/x", "https://pacs/x?y=z", "http://pacs.example/dicom-web"]
)
def test_unfit_archive_url_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(UsageError):
        open_session(url)


def test_credentials_are_read_from_private_file_alone(tmp_path: Path) -> None:
    seen = []

    def note(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("Authorization"))
        empty(handler)

    file = tmp_path / "credentials"
    for line, expected in (("jane:pass:word", "Basic amFuZTpwYXNzOndvcmQ="), ("Bearer abc", "Bearer abc")):
        file.write_text(line + "\n")
        file.chmod(0o600)
        with serving(note) as url, Archive(url, credentials=file) as archive:
            archive.studies()
        assert seen.pop() == expected
    for line in ("", "jane", "Bearer a b"):
        file.write_text(line)
        with pytest.raises(UsageError, match="no credentials"):
            open_session("http://127.0.0.1/", credentials=file)
    file.chmod(0o644)
    with pytest.raises(UsageError, match="0600"):
        open_session("http://127.0.0.1/", credentials=file)
