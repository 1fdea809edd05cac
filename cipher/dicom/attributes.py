"""The Encrypted Attributes Sequence (0400,0500): the original's attributes, readable by certificate (PS3.15 Annex E).

Its plaintext is a Modified Attributes Sequence (0400,0550) with one item that holds the original's attributes, encoded
in Explicit VR Little Endian; its ciphertext a CMS EnvelopedData (RFC 5652: AES-256-CBC, RSA key transport), which
`cryptography` writes and `openssl cms -decrypt` reads. CMS EnvelopedData does not protect integrity, and the standard
says so; the tag of the container in the pixel data covers `digest`.
"""

import hashlib
import io
import struct
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import (
    PKCS7EnvelopeBuilder,
    PKCS7Options,
    pkcs7_decrypt_der,
)
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from cipher.dicom.recipient import Recipient, check_certificate
from cipher.dicom.span import LARGE, PIXEL_TAGS
from cipher.dicom.values import quiet
from cipher.errors import BadKey, ContextMismatch, Damaged

MOST_BYTES = 1 << 20
"""Most attribute bytes that are put into the sequence; the container holds all of them in any case."""


def encrypt_attributes(original: Dataset, recipients: Sequence[x509.Certificate]) -> Dataset:
    """Encrypt attributes into an item of the Encrypted Attributes Sequence.

    Args:
        original: the attributes to protect. Elements over 64 KiB, and those that cannot be read, are left out here:
            the container holds the file byte for byte.
        recipients: each can read them; at least one.

    Raises:
        BadKey: no recipient, or one whose key is not fit.
    """
    if not recipients:
        raise BadKey(
            "The DICOM form needs the certificate of at least one recipient of the encrypted attributes; make a key "
            "pair with Recipient.generate, or give a certificate."
        )
    builder = PKCS7EnvelopeBuilder().set_data(_encode(original)).set_content_encryption_algorithm(AES256)
    for certificate in recipients:
        check_certificate(certificate)
        builder = builder.add_recipient(certificate)
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID = ExplicitVRLittleEndian
    content = builder.encrypt(Encoding.DER, [PKCS7Options.Binary])
    item.EncryptedContent = content + bytes(len(content) % 2)
    return item


def decrypt_attributes(item: Dataset, recipient: Recipient) -> Dataset:
    """The original's attributes from one item of the Encrypted Attributes Sequence.

    Nothing in CMS says whether they were changed: open or verify the whole object first.

    Raises:
        BadKey: they were not encrypted for this recipient, or are no such item.
    """
    content = item.get("EncryptedContent")
    try:
        plain = pkcs7_decrypt_der(_trim(bytes(content or b"")), recipient.certificate, recipient.private_key, [])
        with quiet():
            decoded = read_dataset(io.BytesIO(plain), is_implicit_VR=False, is_little_endian=True)
        return Dataset(decoded.ModifiedAttributesSequence[0])
    except (ValueError, TypeError, Damaged, AttributeError, IndexError, OSError, struct.error):
        raise BadKey("The encrypted attributes do not open with this recipient's key.") from None


def digest(sequence: Sequence[Dataset]) -> str:
    """SHA-256, as hex, over the items' transfer syntaxes and contents without DICOM's padding; it is bound.

    Raises:
        ContextMismatch: an item is not what this package writes.
    """
    total = hashlib.sha256()
    for item in sequence:
        try:
            with quiet():
                parts = str(item.EncryptedContentTransferSyntaxUID).encode(), _trim(bytes(item.EncryptedContent))
        except Exception:  # pydicom decodes hostile values here, and fails in whatever way they lead it to
            raise ContextMismatch("The encrypted attributes of the sealed DICOM object were changed.") from None
        for part in parts:
            total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()


def _encode(original: Dataset) -> bytes:
    with quiet():
        item = Dataset()
        size = 0
        for tag in sorted(original.keys()):
            raw = original.get_item(tag, keep_deferred=True)
            length = getattr(raw, "length", 0)
            if tag.group == 2 or tag in PIXEL_TAGS or LARGE < length < 0xFFFFFFFF:
                continue
            encoded = _encode_element(original, tag)
            if encoded is None or size + len(encoded) > MOST_BYTES:
                continue
            item[tag] = original[tag]
            size += len(encoded)
        whole = Dataset()
        whole.ModifiedAttributesSequence = [item]
        return _write(whole)


def _encode_element(original: Dataset, tag: int) -> bytes | None:
    """The element's bytes, or none if it cannot be read or written."""
    alone = Dataset()
    try:
        if "SpecificCharacterSet" in original:
            alone.SpecificCharacterSet = original.SpecificCharacterSet
        alone[tag] = original[tag]
        return _write(alone)
    except Exception:  # pydicom decodes a hostile value here; whatever it raises, the element is left to the container
        return None


def _write(dataset: Dataset) -> bytes:
    target = DicomBytesIO()
    target.is_little_endian = True
    target.is_implicit_VR = False
    write_dataset(target, dataset)
    return target.getvalue()


def _trim(content: bytes) -> bytes:
    """A DER value without the byte that DICOM may have added to make its length even.

    Raises:
        Damaged: no DER value of definite length.
    """
    if len(content) < 2:
        raise Damaged("The encrypted content is cut off.")
    width = content[1] & 0x7F if content[1] & 0x80 else 0
    length = int.from_bytes(content[2 : 2 + width], "big") if width else content[1]
    end = 2 + width + length
    if not end <= len(content) <= end + 1:
        raise Damaged("The encrypted content has another length than it announces.")
    return content[:end]
