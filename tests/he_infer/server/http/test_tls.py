"""HTTPS by the server itself: the client checks the certificate, and plain HTTP is refused."""

import datetime
import ipaddress
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from he_infer.client.connection.session import Session
from he_infer.client.doctor import check_certificate
from he_infer.errors import ServerUnreachable
from he_infer.local_server import LocalServer
from he_infer.server.main import warn_of_expiry


def make_certificate(folder: Path, valid: datetime.timedelta) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 that ends after this time, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "he-infer test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=100))
        .not_valid_after(now + valid)
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that ends soon, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"), datetime.timedelta(days=10, hours=1))


@pytest.mark.parametrize(
    ("days", "said"), [(-1, "clients refuse it"), (10, "clients will refuse it in 9 days"), (40, None)]
)
def test_a_certificate_that_ends_is_in_the_log(
    days: int, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cert_file, _ = make_certificate(tmp_path, datetime.timedelta(days=days))
    warn_of_expiry(cert_file)
    logged = capsys.readouterr()
    assert (said or "") in logged.out + logged.err
    assert (said is None) == ("renew" not in logged.out + logged.err)


def test_https_server_refuses_plain_http_and_untrusting_clients(
    bundle: Path, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert_file, key_file = certificate
    options = ["--workers", "1", "--tls-cert", str(cert_file), "--tls-key", str(key_file)]
    with LocalServer([bundle], tmp_path / "data", options=options, ca_file=cert_file) as server:
        assert server.url.startswith("https://")
        with Session(server.url, server.token, ca_file=cert_file) as session:
            assert session.models()
        assert "clients will refuse it in 10 days" in server.log_path.read_text()
        found = check_certificate(server.url, cert_file, None)
        assert found is not None
        assert (found.state, "10 days from now" in found.text) == ("warning", True)
        assert check_certificate(server.url, None, None) is None  # not trusted: the other checks say so
        with Session(server.url, server.token, patience=0) as session, pytest.raises(ServerUnreachable):
            session.models()
        with pytest.raises(httpx2.TransportError):
            httpx2.get(server.url.replace("https", "http") + "/healthz")


def test_file_that_is_not_a_certificate_is_named(bundle: Path, tmp_path: Path) -> None:
    from he_infer.errors import ServerError

    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    options = ["--tls-cert", str(bad), "--tls-key", str(bad)]
    with pytest.raises(ServerError, match="certificate"):
        LocalServer([bundle], tmp_path / "data", options=options).start()
