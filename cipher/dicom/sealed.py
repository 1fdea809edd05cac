"""Sealing a file as a DICOM object that an archive stores: docs/dicom.md lists it attribute by attribute.

`cipher.vault.forms` chooses between this form and the plain container, and opens both.
"""

import io
import os
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cipher.container import api as container
from cipher.container.api import ObjectVersion, Options
from cipher.container.beginning import reading
from cipher.dicom import object as dicom_object
from cipher.dicom.attributes import digest, encrypt_attributes
from cipher.dicom.span import DicomLayout, PixelElement, read_attributes
from cipher.dicom.uids import new_identifiers
from cipher.dicom.values import originals
from cipher.errors import StorageProblem, UnsupportedFormat
from cipher.files.atomic import atomic_write
from cipher.keys.vault_key import VaultKey

SEALED_MODE = 0o644
_MOST_DEFLATED = 64 * 2**20
_MOST_INFLATED = 256 * 2**20
_META_AT = 132
_META_LENGTH = struct.Struct("<HH2sHI")
"""(0002,0000), the length of the file meta information that follows it."""


def seal_object(
    source: Path,
    destination: str | os.PathLike[str],
    vault_key: VaultKey,
    layout: DicomLayout,
    recipients: Sequence[x509.Certificate],
    linkable: bool,
    project: str,
    options: Options,
) -> ObjectVersion:
    """Seal a DICOM file in the DICOM form; arguments as `cipher.vault.forms.seal_path`.

    Raises:
        UnsupportedFormat: the file is no DICOM, cannot be followed, or has no pixels.
        BadKey: no recipient.
        SourceChanged: the file changed meanwhile.
        StorageProblem: it cannot be read, or the destination not be written.
    """
    attributes = _attributes_of(source, layout)
    identifiers = new_identifiers(attributes, vault_key, linkable=linkable, project=project)
    encrypted = encrypt_attributes(attributes, recipients)
    bound = dicom_object.binding(identifiers, digest([encrypted]))
    options = replace(
        options,
        name=source.name,
        private={**originals(attributes), **options.private},
        labels={"holds": "dicom", "sop_instance": identifiers.instance},
        associated=bound,
    )
    folder = Path(destination).parent
    try:
        with reading(source) as plain, tempfile.TemporaryFile(dir=folder) as body:
            version = container.seal_stream(plain, body, vault_key, span=layout.span, options=options)
            length = body.tell()
            body.seek(0)
            with atomic_write(destination, mode=SEALED_MODE, syncs=options.syncs) as target:
                dicom_object.write_object(target, body, length, identifiers, encrypted)
    except OSError as error:
        raise StorageProblem(f"Cannot write {os.fspath(destination)}: {error.strerror or error}.") from error
    return version


def _attributes_of(source: Path, layout: DicomLayout) -> Dataset:
    """The original's attributes, for the DICOM form.

    Raises:
        UnsupportedFormat: there are none, or there is no image.
    """
    advice = "Use the container form, which keeps any file."
    if not layout.is_dicom:
        raise UnsupportedFormat(f"{source.name} is not a DICOM file, and cannot become a sealed DICOM object. {advice}")
    attributes, element = layout.attributes, layout.element
    if layout.transfer_syntax == DeflatedExplicitVRLittleEndian:
        attributes, element = _inflate(source)
    if attributes is None or element is None:
        why = layout.remark if attributes is None else "it holds no pixel data"
        raise UnsupportedFormat(f"{source.name} cannot become a sealed DICOM object: {why}. {advice}")
    return attributes


def _inflate(source: Path) -> tuple[Dataset | None, PixelElement | None]:
    """The attributes of a deflated data set (PS3.5 A.5), inflated up to a bound, as a small file may become huge."""
    with reading(source) as handle:
        data = handle.read(_MOST_DEFLATED)
    start = _META_AT + _META_LENGTH.size
    if len(data) < start:
        return None, None
    *_, length = _META_LENGTH.unpack(data[_META_AT:start])
    try:
        plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start + length :], _MOST_INFLATED)
        attributes, element = read_attributes(io.BytesIO(plain))
    except (zlib.error, InvalidDicomError):
        return None, None
    return attributes, element
