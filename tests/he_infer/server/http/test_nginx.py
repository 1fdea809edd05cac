"""The documented nginx in front of a server: clients without certificate or token are refused."""

import datetime
import ipaddress
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from he_infer.client.connection.connection import trust
from he_infer.client.connection.session import Session
from he_infer.errors import ProtocolMismatch, ServerUnreachable, Unauthorised
from he_infer.local_server import LocalServer
from tests.he_infer.server.support.kit import Client
from tests.he_infer.server.test_commands import he_infer

SITE = Path(__file__).parents[4] / "docs" / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """Signs certificates and a list of those it took back."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self._build(self.name, self.key.public_key()).add_extension(basic, critical=True)
        self.signed = self.certificate.sign(self.key, hashes.SHA256())

    def _build(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        hour = datetime.timedelta(hours=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
        return (
            builder.serial_number(x509.random_serial_number()).not_valid_before(NOW - hour).not_valid_after(NOW + hour)
        )

    def issue(self, name: str, path: Path) -> x509.Certificate:
        """Write a certificate for 127.0.0.1 and its private key to one PEM file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._build(subject, key.public_key()).add_extension(address, critical=False)
        signed = certificate.sign(self.key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.touch(mode=0o600)
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
        return signed

    def revoke(self, path: Path, *certificates: x509.Certificate) -> None:
        """Write the list of certificates taken back."""
        day = datetime.timedelta(days=1)
        built = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(NOW - day)
        built = built.next_update(NOW + day)
        for certificate in certificates:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(NOW - day)
            built = built.add_revoked_certificate(entry.build())
        path.write_bytes(built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def write(self, path: Path) -> None:
        path.write_bytes(self.signed.public_bytes(serialization.Encoding.PEM))


class Front:
    """A running nginx, and the files that a client needs to get through it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.ca_file = folder / "server-ca.pem"

    def session(self, token: str, certificate: str | None = "client.pem") -> Session:
        chosen = self.folder / certificate if certificate else None
        return Session(self.url, token, ca_file=self.ca_file, client_cert=chosen, patience=0)


@pytest.fixture(scope="module")
def front(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    if NGINX is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
    folder = tmp_path_factory.mktemp("nginx")
    servers, clients, strangers = Authority("servers"), Authority("clients"), Authority("strangers")
    servers.write(folder / "server-ca.pem")
    clients.write(folder / "clients-ca.pem")
    servers.issue("cloud.example", folder / "server.pem")
    clients.issue("St. Mary", folder / "client.pem")
    strangers.issue("St. Mary", folder / "stranger.pem")
    clients.revoke(folder / "clients.crl", clients.issue("dismissed", folder / "revoked.pem"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = SITE.read_text()
    for documented, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server 127.0.0.1:8080", f"server {server.url.removeprefix('http://')}"),
        ("/etc/he-infer/tls/server.key", str(folder / "server.pem")),
        ("/etc/he-infer/tls/", f"{folder}/"),
    ):
        assert documented in site
        site = site.replace(documented, ours)
    (folder / "site.conf").write_text(site)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off;\n{user}worker_processes 1;\npid {folder}/pid;\nevents {{}}\n"
        f"http {{\naccess_log {folder}/access.log;\n{temporary}include {folder}/site.conf;\n}}\n"
    )
    command = [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert process.poll() is None, (folder / "error.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                break
        yield Front(folder, f"https://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)


def test_classifying_and_storing_work_through_nginx(front: Front, server: LocalServer, features: np.ndarray) -> None:
    with front.session(server.token) as session:
        client = Client(server, session, server.token)
        assert client.scores(features).shape == (1, 3)
        data = os.urandom(5_000_000)
        stored = session.put_object(data)
        assert session.get_object(stored.id) == data
        assert session.get_range(stored.id, 4_999_990, 5_000_000) == data[-10:]
    assert server.token not in (front.folder / "access.log").read_text()
    assert not [path for path in (front.folder / "client_body").rglob("*") if path.is_file()]


@pytest.mark.parametrize("certificate", [None, "stranger.pem", "revoked.pem"])
def test_client_without_authority_certificate_is_refused(
    front: Front, server: LocalServer, certificate: str | None
) -> None:
    # Counted by its first request: the server's line for an earlier one may still be on its way to the log.
    heard = b'"route": "/v1/info"'
    before = server.log_path.read_bytes().count(heard)
    with front.session(server.token, certificate) as session, pytest.raises((ProtocolMismatch, ServerUnreachable)):
        session.models()
    assert server.log_path.read_bytes().count(heard) == before


def test_certificate_without_a_valid_token_is_unauthorised(front: Front) -> None:
    with front.session("hei_0123456789abcdef_" + "A" * 43) as session, pytest.raises(Unauthorised):
        session.models()


def test_proxy_hides_metrics_and_unknown_authority_is_not_trusted(front: Front, server: LocalServer) -> None:
    context = trust(front.ca_file, front.folder / "client.pem")
    assert isinstance(context, ssl.SSLContext)
    with httpx2.Client(verify=context, trust_env=False) as http:
        assert http.get(f"{front.url}/healthz").json() == {"status": "ok"}
        assert http.get(f"{front.url}/readyz").status_code == 200
        refused = http.get(f"{front.url}/metrics", headers={"Authorization": f"Bearer {server.token}"})
        assert refused.status_code == 404
        assert not re.search(r"nginx/[\d.]+", str(refused.headers))
    with pytest.raises(httpx2.TransportError):  # its certificate is not of an authority that the system knows
        httpx2.get(f"{front.url}/healthz")


def test_commands_present_the_client_certificate(front: Front, server: LocalServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(server.token)
    there = ("--url", front.url, "--token-file", token, "--ca-file", front.ca_file)
    assert "plan" in he_infer("keys", "list", *there, "--client-cert", front.folder / "client.pem")
    assert "400" in he_infer("keys", "list", *there, status=1)
    missing = he_infer("keys", "list", *there, "--client-cert", tmp_path / "none.pem", status=1)
    assert "none.pem" in missing
