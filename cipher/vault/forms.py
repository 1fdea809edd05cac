"""The three forms of a sealed file, and which of them a file has.

    container   the plain container (docs/format-container.md): smallest, hides everything, for a vault on a disk
    dicom       a valid DICOM object that an archive stores and finds: docs/dicom.md lists it attribute by attribute
    region      the image as a valid DICOM object in which a region of the pixels is blanked and sealed

The container form takes any file and needs no pydicom: that is loaded only to look for pixels in a file that looks
like DICOM, and to take a sealed DICOM object apart.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from cipher.container import api as container
from cipher.container.api import Description, ObjectVersion, Opened, Options, Progress
from cipher.container.beginning import reading
from cipher.container.describe import describe_stream
from cipher.container.header import MAGIC, Kind
from cipher.container.opening import Opening
from cipher.container.rekey import rekey_stream
from cipher.errors import CipherError, StorageProblem, UnsupportedFormat
from cipher.files.atomic import PRIVATE, atomic_write
from cipher.files.folder_syncs import FolderSyncs
from cipher.files.lock import open_exclusive
from cipher.files.window import window
from cipher.keys.vault_key import VaultKey

if TYPE_CHECKING:
    from cipher.dicom.object import SealedObject
    from cipher.dicom.region import Region
    from cipher.dicom.region_object import RegionObject
    from cipher.dicom.span import DicomLayout
    from cipher.dicom.uids import Identifiers

Form: TypeAlias = Literal["container", "dicom", "region"]
PathLike: TypeAlias = str | os.PathLike[str]

ENDINGS: dict[Form, str] = {"container": ".sealed", "dicom": ".dcm", "region": ".dcm"}

_PREAMBLE = 128
_BARE_BEGINNINGS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""Groups 0002 and 0008, little endian, and 0008 big endian: how a data set without a preamble begins."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """Result of sealing a file."""

    form: Form
    version: ObjectVersion
    remark: str
    """Reason why no pixels were found, as text for a user; empty where they were found."""
    is_dicom: bool


@dataclass(frozen=True, slots=True)
class SealedDescription:
    """Description of a sealed object; nothing in it is authenticated before the object is opened."""

    form: Form
    container: Description
    identifiers: "Identifiers | None"
    """New identifiers of the DICOM form; none for a plain container."""


def lay_out(source: PathLike) -> "DicomLayout | None":
    """Layout of a file; none for a file that does not look like DICOM, or where pydicom is missing.

    Raises:
        StorageProblem: the file cannot be read.
    """
    with reading(source) as handle:
        if not _looks_like_dicom(handle):
            return None
    try:
        from cipher.dicom import span
    except ModuleNotFoundError:
        return None
    return span.lay_out(Path(source))


def seal_path(
    source: PathLike,
    destination: PathLike,
    vault_key: VaultKey,
    form: Form = "container",
    *,
    layout: "DicomLayout | None" = None,
    recipients: Sequence[x509.Certificate] = (),
    shared: Sequence[tuple[X25519PublicKey, bool]] = (),
    linkable: bool = True,
    project: str = "",
    region: "Region | None" = None,
    private: Mapping[str, str] | None = None,
    replaces: ObjectVersion | None = None,
    progress: Progress | None = None,
    syncs: FolderSyncs | None = None,
) -> Sealing:
    """Seal a file; `destination` becomes the whole sealed object at once, or stays as it was.

    Args:
        source: a DICOM file; in the container form any file.
        destination: where the sealed object goes. Its folder must exist.
        vault_key: opens it again.
        form: 'container', 'dicom' or 'region'.
        layout: layout of the source, where the caller has it already.
        recipients: who may read the encrypted attributes of the DICOM form; at least one.
        shared: public keys that open the object besides the vault's key, and whether each is for recovery.
        linkable: whether the sealed objects of a patient or study share their new identifiers.
        project: pseudonyms of the DICOM form are stable within it, and those of two projects cannot be linked.
        region: pixels that the region form seals.
        private: further names to keep secret inside, beside the file's name and the original UIDs.
        replaces: the version that this one follows.
        progress: called with the payload bytes done.
        syncs: collects the destination's folder, which the caller has flushed before it acknowledges the object.

    Raises:
        UnsupportedFormat: the DICOM form was asked for a file that is no DICOM, cannot be followed, or has no pixels;
            the region form for one whose pixels cannot be decoded here, or are no integers.
        BadSpan: the region form without a region in the image.
        BadKey: the DICOM form without a recipient.
        SourceChanged: the file changed meanwhile.
        StorageProblem: it cannot be read, or the destination not be written.
    """
    layout = layout or lay_out(source)
    options = Options(
        private=dict(private or {}), replaces=replaces, recipients=tuple(shared), progress=progress, syncs=syncs
    )
    if form == "region":
        from cipher.dicom.region import Region
        from cipher.dicom.region_sealing import seal_region

        if layout is None or not layout.is_dicom:
            raise UnsupportedFormat(
                f"{Path(source).name} is not a DICOM file, and no region of it can be sealed. Use the container form, "
                "which keeps any file."
            )
        version = seal_region(Path(source), destination, vault_key, layout, region or Region(), options)
        return Sealing("region", version, "", True)
    if form == "dicom":
        from cipher.dicom import sealed

        if layout is None:
            raise UnsupportedFormat(
                f"{Path(source).name} is not a DICOM file, and cannot become a sealed DICOM object. Use the container "
                "form, which keeps any file."
            )
        version = sealed.seal_object(
            Path(source), destination, vault_key, layout, recipients, linkable, project, options
        )
        return Sealing("dicom", version, layout.remark, True)
    if layout is None:
        version = container.seal_file(source, destination, vault_key, options=options)
        return Sealing("container", version, "not a DICOM file", False)
    from cipher.dicom.values import originals

    names = {**originals(layout.attributes), **options.private}
    options = replace(options, private=names, labels={"holds": "dicom"} if layout.is_dicom else {})
    version = container.seal_file(source, destination, vault_key, span=layout.span, options=options)
    return Sealing("container", version, layout.remark, layout.is_dicom)


def open_path(
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
        UnsupportedFormat, UnsupportedVersion: not a sealed object, or of another release.
        WrongKey: sealed under another vault key.
        Damaged: changed, cut or extended.
        ContextMismatch: the DICOM attributes around the sealed pixels were changed, or the pixels were moved.
        Replayed: another object, or an older version, than expected.
        StorageProblem: the file system refused.
    """
    with sealed_container(source) as (inner, bound), atomic_write(destination, mode=PRIVATE) as target:
        opening = Opening(inner, vault_key, associated=bound, expect=expect)
        if opening.header.kind is Kind.ARRAY:
            raise UnsupportedFormat("This sealed object holds an array, not a file; open it with open_array.")
        for piece in original_bytes(opening, source):
            target.write(piece)
            if progress:
                progress(len(piece))
    return opening.opened


def original_bytes(opening: Opening, source: PathLike) -> Iterator[bytes | memoryview]:
    """The original file's bytes, from its opened container and, for a region, the image around it.

    Each piece is to be used before the next is asked for.

    Raises:
        Damaged: a record was changed.
        ContextMismatch: the image around a region was changed.
        StorageProblem: it cannot be read.
    """
    if opening.header.kind is not Kind.REGION:
        yield from opening.payload()
        return
    from cipher.dicom.region_object import compose

    with reading(source) as handle:
        yield from compose(handle, opening)


def rekey_path(path: PathLike, old: VaultKey, new: VaultKey) -> bool:
    """Make `new` the only vault key that opens a sealed object of either form; writes its key slots in place.

    In the DICOM form, identifiers and encrypted attributes stay: the recipients' keys are not the vault's.

    Returns:
        Whether anything had to be changed.

    Raises:
        WrongKey: neither key opens it.
        Damaged, UnsupportedFormat, UnsupportedVersion: as `open_path`.
        StorageProblem: the file system refused.
    """
    with changing(path) as inner:
        return rekey_stream(inner, old, new)


@contextmanager
def changing(path: PathLike) -> Iterator[BinaryIO]:
    """The container of a sealed object of either form, open for reading and writing, locked against other writers.

    Raises:
        UnsupportedFormat, UnsupportedVersion, Damaged: about what surrounds the container.
        StorageProblem: the file system refused.
    """
    try:
        with open_exclusive(Path(path)) as handle:
            found = _locate(handle)
            yield handle if found is None else window(handle, found.container_at, found.container_bytes)
    except OSError as error:
        raise StorageProblem(f"Cannot change {os.fspath(path)}: {error.strerror or error}.") from error


def describe_path(source: PathLike) -> SealedDescription:
    """Describe a sealed object, without a key.

    Raises:
        UnsupportedFormat, UnsupportedVersion, Damaged: as `open_path`.
        StorageProblem: it cannot be read.
    """
    with reading(source) as handle:
        found = _locate(handle)
        if found is None:
            return SealedDescription("container", describe_stream(handle), None)
        inner = window(handle, found.container_at, found.container_bytes)
        described = describe_stream(inner)
        from cipher.dicom.region_object import RegionObject

        form: Form = "region" if isinstance(found, RegionObject) else "dicom"
        return SealedDescription(form, described, found.identifiers)


@contextmanager
def sealed_container(source: PathLike) -> Iterator[tuple[BinaryIO, bytes]]:
    """The container of a sealed object of either form, and the bytes that it must have been bound to.

    Raises:
        UnsupportedFormat, UnsupportedVersion, Damaged: as `open_path`, about what surrounds the container.
        ContextMismatch: an attribute around it is not what this package writes.
        StorageProblem: it cannot be read.
    """
    with reading(source) as handle:
        found = _locate(handle)
        if found is None:
            yield handle, b""
        else:
            yield window(handle, found.container_at, found.container_bytes), found.binding()


def holds_sealed(path: Path) -> bool:
    """Whether a file says that it is a sealed object of either form, damaged or not.

    Raises:
        StorageProblem: it cannot be read.
    """
    try:
        with sealed_container(path):
            return True
    except UnsupportedFormat:
        return False
    except StorageProblem:
        raise
    except CipherError:
        return True


def _locate(handle: BinaryIO) -> "SealedObject | RegionObject | None":
    """None for a plain container."""
    beginning = handle.read(len(MAGIC))
    handle.seek(0)
    if beginning == MAGIC:
        return None
    if not _looks_like_dicom(handle):
        raise UnsupportedFormat("This is not a sealed object: neither a container nor a DICOM file.")
    try:
        from cipher.dicom import object as dicom_object
    except ModuleNotFoundError:
        raise UnsupportedFormat(
            "This is a DICOM file, and pydicom, which could tell whether it is a sealed one, is not installed. Install "
            "it with: pip install pydicom"
        ) from None
    return dicom_object.read_object(handle)


def _looks_like_dicom(handle: BinaryIO) -> bool:
    beginning = handle.read(_PREAMBLE + 4)
    handle.seek(0)
    return beginning[_PREAMBLE:] == b"DICM" or beginning[:2] in _BARE_BEGINNINGS
