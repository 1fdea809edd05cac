"""Recipients of the Encrypted Attributes Sequence of sealed DICOM objects: holders of X.509 certificates with RSA keys.

Every vault has one recipient of its own: an RSA key of 3072 bits with a self-signed certificate, in a file beside the
vault key that is sealed under it. Each guess at the passphrase therefore costs the vault key's Argon2id. It is a key
pair of its own, and not derived from the vault key, because DICOM's Annex E asks for RSA key transport, which a
standard library makes keys for but cannot derive. Other DICOM software, or `openssl`, takes it as PKCS #12, which is
written on request, under a passphrase of its own. Sealing needs the certificates alone. Restoring needs none of it: the
sealed pixel data holds the whole original file.
"""

import datetime
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES
from cryptography.x509.oid import NameOID

from cipher.container.api import open_bytes, seal_bytes
from cipher.container.describe import describe
from cipher.container.sealing import Options
from cipher.errors import AlreadyExists, BadKey, Damaged, StorageProblem
from cipher.files.atomic import PRIVATE, write_bytes
from cipher.keys.vault_key import VaultKey

RSA_BITS = 3072
"""Bits of a new RSA key: 128 bits of security (NIST SP 800-57, table 2)."""
LEAST_RSA_BITS = 2048
_ROUNDS = 600_000
"""Iterations of PBKDF2-HMAC-SHA256, the key derivation of PKCS #12 files."""
_YEARS = 30
_NAME = b"he-infer recipient"
_LABELS = {"holds": "recipient 2"}


@dataclass(frozen=True, slots=True)
class Recipient:
    """A key pair that opens encrypted attributes."""

    private_key: rsa.RSAPrivateKey = field(repr=False)
    certificate: x509.Certificate

    @classmethod
    def generate(cls, name: str = "he-infer vault") -> Self:
        """A fresh key pair with a self-signed certificate for `name`, valid for 30 years."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        usage = x509.KeyUsage(
            key_encipherment=True,
            digital_signature=False,
            content_commitment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=365 * _YEARS))
            .add_extension(usage, critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    def save(self, path: str | os.PathLike[str], vault_key: VaultKey) -> None:
        """Write key and certificate to a new file that only the vault key opens; mode 0600, atomically.

        Raises:
            AlreadyExists: a file is there already.
            StorageProblem: it cannot be written.
        """
        bare = pkcs12.serialize_key_and_certificates(
            _NAME, self.private_key, self.certificate, None, serialization.NoEncryption()
        )
        _create(path, seal_bytes(bare, vault_key, options=Options(labels=_LABELS)))

    @classmethod
    def load(cls, path: str | os.PathLike[str], vault_key: VaultKey) -> Self:
        """Read what `save` wrote.

        Raises:
            StorageProblem: it cannot be read.
            WrongKey, Damaged, UnsupportedFormat, UnsupportedVersion: as opening any object.
        """
        try:
            sealed = Path(path).read_bytes()
        except OSError as error:
            raise StorageProblem(f"Cannot read the recipient key {path}: {error.strerror or error}.") from error
        bare = open_bytes(sealed, vault_key)
        key, certificate, _ = pkcs12.load_key_and_certificates(bare, None) if _is_recipient(sealed) else (None,) * 3
        if not isinstance(key, rsa.RSAPrivateKey) or certificate is None:
            raise Damaged(f"{path} is a sealed object, but not a recipient's key.")
        return cls(key, certificate)

    def export(self, path: str | os.PathLike[str], passphrase: str) -> None:
        """Write key and certificate as a new PKCS #12 file under a passphrase; mode 0600, atomically.

        PKCS #12 knows no memory-hard derivation (PBKDF2 here), so its passphrase should be another than the vault's.

        Raises:
            AlreadyExists: a file is there already.
            BadKey: the passphrase is empty.
            StorageProblem: it cannot be written.
        """
        if not passphrase:
            raise BadKey("The passphrase is empty; choose one that is hard to guess.")
        encryption = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(_ROUNDS)
            .key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC)
            .hmac_hash(hashes.SHA256())
            .build(passphrase.encode())
        )
        _create(
            path, pkcs12.serialize_key_and_certificates(_NAME, self.private_key, self.certificate, None, encryption)
        )


def _create(path: str | os.PathLike[str], data: bytes) -> None:
    try:
        write_bytes(path, data, mode=PRIVATE, replace=False)
    except AlreadyExists:
        raise AlreadyExists(f"{path} exists already and a key is never overwritten; choose another name.") from None


def _is_recipient(sealed: bytes) -> bool:
    return describe(sealed).labels == _LABELS


def load_certificate(path: str | os.PathLike[str]) -> x509.Certificate:
    """A recipient's certificate from a PEM or DER file.

    Raises:
        StorageProblem: it cannot be read.
        BadKey: no certificate, or not one of an RSA key of 2048 bits or more.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StorageProblem(f"Cannot read the certificate {path}: {error.strerror or error}.") from error
    try:
        pem = b"-----BEGIN" in data
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except ValueError:
        raise BadKey(
            f"{path} is no X.509 certificate (PEM or DER). A public key without one is given with --share-with."
        ) from None
    check_certificate(certificate)
    return certificate


def check_certificate(certificate: x509.Certificate) -> None:
    """Refuse certificates whose keys cannot receive encrypted attributes.

    Raises:
        BadKey: not RSA, or fewer than 2048 bits.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < LEAST_RSA_BITS:
        raise BadKey(
            f"A recipient's certificate must be for an RSA key of at least {LEAST_RSA_BITS} bits. An X25519 public key "
            "needs no certificate and is given with --share-with."
        )
