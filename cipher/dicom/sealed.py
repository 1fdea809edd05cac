"""DICOM files, sealed and restored byte for byte, in two forms.

    container   the plain container (docs/format-container.md): smallest, hides everything, for a vault on a disk
    dicom       a valid DICOM object that an archive stores and finds: docs/dicom.md lists it attribute by attribute

Any other file is taken too in the container form, as opaque bytes. `open_sealed`, `verify_sealed`, `rekey_sealed` and
`describe_sealed` take either form, and find out which.
"""

import io
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from cryptography import x509
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cipher.container import api as container
from cipher.container.api import Description, ObjectVersion, Opened, Options, Progress
from cipher.container.beginning import reading
from cipher.container.describe import describe_stream
from cipher.container.header import MAGIC
from cipher.container.rekey import rekey_stream
from cipher.container.sealing import Opening
from cipher.dicom import object as dicom_object
from cipher.dicom.attributes import digest, encrypt_attributes
from cipher.dicom.object import SealedObject
from cipher.dicom.span import DicomLayout, PixelElement, lay_out, read_attributes
from cipher.dicom.uids import Identifiers, new_identifiers
from cipher.dicom.values import text
from cipher.errors import StorageProblem, UnsupportedFormat
from cipher.files.atomic import PRIVATE, atomic_write
from cipher.files.lock import exclusive
from cipher.files.window import window
from cipher.keys.vault_key import VaultKey

Form: TypeAlias = Literal["container", "dicom"]
PathLike: TypeAlias = str | os.PathLike[str]

SEALED_MODE = 0o644
_MOST_DEFLATED = 64 * 2**20
_MOST_INFLATED = 256 * 2**20
_META_AT = 132
_META_LENGTH = struct.Struct("<HH2sHI")
"""(0002,0000), the length of the file meta information that follows it."""
_ORIGINALS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True, slots=True)
class Sealing:
    """What sealing a file did."""

    form: Form
    version: ObjectVersion
    remark: str
    """Why no pixels were found, in words for a user; empty where they were."""
    is_dicom: bool


@dataclass(frozen=True, slots=True)
class SealedDescription:
    """What a sealed object says of itself; nothing of it is authenticated before it is opened."""

    form: Form
    container: Description
    identifiers: Identifiers | None
    """The new ones, of the DICOM form."""


def seal_dicom(
    source: PathLike,
    destination: PathLike,
    vault_key: VaultKey,
    form: Form = "container",
    *,
    layout: DicomLayout | None = None,
    recipients: Sequence[x509.Certificate] = (),
    linkable: bool = True,
    private: Mapping[str, str] | None = None,
    replaces: ObjectVersion | None = None,
    progress: Progress | None = None,
) -> Sealing:
    """Seal a file; `destination` becomes the whole sealed object at once, or stays as it was.

    Args:
        source: a DICOM file; in the container form any file.
        destination: where the sealed object goes. Its folder must exist.
        vault_key: opens it again.
        form: 'container' or 'dicom'.
        layout: of the source, where the caller has it already.
        recipients: who may read the encrypted attributes of the DICOM form; at least one.
        linkable: whether the sealed objects of a patient or study share their new identifiers.
        private: further names to keep secret inside, beside the file's name and the original UIDs.
        replaces: the version that this one follows.
        progress: called with the payload bytes done.

    Raises:
        UnsupportedFormat: the DICOM form was asked for a file that is no DICOM, cannot be followed, or has no pixels.
        BadKey: the DICOM form without a recipient.
        SourceChanged: the file changed meanwhile.
        StorageProblem: it cannot be read, or the destination not be written.
    """
    layout = layout or lay_out(Path(source))
    if form == "dicom":
        options = Options(private=dict(private or {}), replaces=replaces, progress=progress)
        return _seal_object(Path(source), destination, vault_key, layout, recipients, linkable, options)
    labels = {"holds": "dicom"} if layout.is_dicom else {}
    names = {**_originals(layout.attributes), **(private or {})}
    options = Options(private=names, labels=labels, replaces=replaces, progress=progress)
    version = container.seal_file(source, destination, vault_key, span=layout.span, options=options)
    return Sealing("container", version, layout.remark, layout.is_dicom)


def open_dicom(
    source: PathLike,
    destination: PathLike,
    vault_key: VaultKey,
    *,
    expect: ObjectVersion | None = None,
    progress: Progress | None = None,
) -> Opened:
    """Restore the original file, byte for byte; `destination` appears only once all of it has been verified.

    Args:
        source: a sealed object of either form.
        destination: where the original goes; mode 0600.
        vault_key: under which it was sealed, or rekeyed.
        expect: the version that it should be, or precede.
        progress: called with the bytes done.

    Raises:
        UnsupportedFormat, UnsupportedVersion: not a sealed object, or of a later release.
        WrongKey: sealed under another vault key.
        Damaged: changed, cut or extended.
        ContextMismatch: the DICOM attributes around the sealed pixels were changed, or the pixels were moved.
        Replayed: another object, or an older version, than expected.
        StorageProblem: the file system refused.
    """
    with sealed_container(source) as (inner, bound), atomic_write(destination, mode=PRIVATE) as target:
        return container.open_stream(inner, target, vault_key, associated=bound, expect=expect, progress=progress)


def read_dicom(source: PathLike, vault_key: VaultKey, *, expect: ObjectVersion | None = None) -> bytes:
    """The original file's bytes; see `open_dicom`."""
    target = io.BytesIO()
    with sealed_container(source) as (inner, bound):
        container.open_stream(inner, target, vault_key, associated=bound, expect=expect)
    return target.getvalue()


def verify_sealed(
    source: PathLike,
    vault_key: VaultKey,
    *,
    expect: ObjectVersion | None = None,
    progress: Progress | None = None,
) -> Opened:
    """Check every tag of a sealed object of either form, and what is bound around it, without writing anything.

    Raises:
        As `open_dicom`.
    """
    with sealed_container(source) as (inner, bound):
        opening = Opening(inner, vault_key, associated=bound, expect=expect)
        opening.verify(progress)
        return opening.opened


def rekey_sealed(path: PathLike, old: VaultKey, new: VaultKey) -> bool:
    """Make `new` the only vault key that opens a sealed object of either form; writes 128 bytes in place.

    In the DICOM form, identifiers and encrypted attributes stay: the recipients' keys are not the vault's.

    Returns:
        Whether anything had to be changed.

    Raises:
        WrongKey: neither key opens it.
        Damaged, UnsupportedFormat, UnsupportedVersion: as `open_dicom`.
        StorageProblem: the file system refused.
    """
    try:
        with Path(path).open("r+b") as handle, exclusive(handle):
            found = _locate(handle)
            inner = handle if found is None else window(handle, found.container_at, found.container_bytes)
            return rekey_stream(inner, old, new)
    except OSError as error:
        raise StorageProblem(f"Cannot rekey {os.fspath(path)}: {error.strerror or error}.") from error


def describe_sealed(source: PathLike) -> SealedDescription:
    """Say what a sealed object is, without a key.

    Raises:
        UnsupportedFormat, UnsupportedVersion, Damaged: as `open_dicom`.
        StorageProblem: it cannot be read.
    """
    with reading(source) as handle:
        found = _locate(handle)
        if found is None:
            return SealedDescription("container", describe_stream(handle), None)
        inner = window(handle, found.container_at, found.container_bytes)
        return SealedDescription("dicom", describe_stream(inner), found.identifiers)


@contextmanager
def sealed_container(source: PathLike) -> Iterator[tuple[BinaryIO, bytes]]:
    """The container of a sealed object of either form, and the bytes that it must have been bound to.

    Raises:
        UnsupportedFormat, UnsupportedVersion, Damaged: as `open_dicom`, about what surrounds the container.
        ContextMismatch: an attribute around it is not what this package writes.
        StorageProblem: it cannot be read.
    """
    with reading(source) as handle:
        found = _locate(handle)
        if found is None:
            yield handle, b""
        else:
            yield window(handle, found.container_at, found.container_bytes), found.binding()


def _locate(handle: BinaryIO) -> SealedObject | None:
    """None for a plain container."""
    beginning = handle.read(len(MAGIC))
    handle.seek(0)
    return None if beginning == MAGIC else dicom_object.read_object(handle)


def _seal_object(
    source: Path,
    destination: PathLike,
    vault_key: VaultKey,
    layout: DicomLayout,
    recipients: Sequence[x509.Certificate],
    linkable: bool,
    options: Options,
) -> Sealing:
    attributes = _attributes_of(source, layout)
    identifiers = new_identifiers(attributes, vault_key, linkable=linkable)
    encrypted = encrypt_attributes(attributes, recipients)
    bound = dicom_object.binding(identifiers, digest([encrypted]))
    options = replace(
        options,
        name=source.name,
        private={**_originals(attributes), **options.private},
        labels={"holds": "dicom", "sop_instance": identifiers.instance},
        associated=bound,
    )
    folder = Path(destination).parent
    try:
        with reading(source) as plain, tempfile.TemporaryFile(dir=folder) as body:
            version = container.seal_stream(plain, body, vault_key, span=layout.span, options=options)
            length = body.tell()
            body.seek(0)
            with atomic_write(destination, mode=SEALED_MODE) as target:
                dicom_object.write_object(target, body, length, identifiers, encrypted)
    except OSError as error:
        raise StorageProblem(f"Cannot write {os.fspath(destination)}: {error.strerror or error}.") from error
    return Sealing("dicom", version, layout.remark, True)


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
        attributes, element = _inflated(source)
    if attributes is None or element is None:
        why = layout.remark if attributes is None else "it holds no pixel data"
        raise UnsupportedFormat(f"{source.name} cannot become a sealed DICOM object: {why}. {advice}")
    return attributes


def _inflated(source: Path) -> tuple[Dataset | None, PixelElement | None]:
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


def _originals(attributes: Dataset | None) -> dict[str, str]:
    """The original's UIDs, which are kept secret inside the container."""
    found = {} if attributes is None else {name: text(attributes, name) for name in _ORIGINALS}
    return {name: value[:64] for name, value in found.items() if value}
