"""A vault: a folder of sealed objects, made from files and folders, and turned into them again.

Which sealed object belongs to which file is found again without a catalogue: by default the object's name is a keyed
pseudonym of the file's path, so that neither names nor folders show; the path itself, size and time of the file are
sealed inside. A second run leaves alone what is already there and unchanged; a changed file is sealed as the next
version of its object.
"""

import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.lib import format as npy

from cipher.container.api import ObjectVersion
from cipher.container.header import Kind, Segment
from cipher.container.sealing import Opening, Progress
from cipher.dicom.sealed import Form, rekey_sealed, seal_dicom, sealed_container
from cipher.dicom.span import DicomLayout, lay_out
from cipher.errors import CipherError, StorageProblem, UnsupportedFormat
from cipher.files.atomic import PRIVATE, TEMPORARY_SUFFIX, atomic_write
from cipher.keys.vault_key import VaultKey

Names: TypeAlias = Literal["hidden", "kept"]
Versions: TypeAlias = Mapping[str, ObjectVersion]
"""Object identifier -> the version that it should have, or a later one: a ledger's content."""

ENDINGS: dict[Form, str] = {"container": ".sealed", "dicom": ".dcm"}
DICOM_NAMES = frozenset([".dcm", ".dicom", ".dcim", ".ima"])
"""How names of DICOM files end, where they have an ending."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file to work on."""

    path: Path
    inside: str
    """Its path from the folder that was asked for, which included, with slashes."""
    size: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with one file."""

    did: str
    """'sealed', 'sealed anew', 'already there', 'restored', 'verified', 'rekeyed'."""
    path: str
    """Of the result."""
    version: ObjectVersion | None = None
    plain_bytes: int = 0
    sealed_bytes: int = 0
    remark: str = ""


def find_files(paths: Iterable[Path], *, leave_out: Iterable[Path] = ()) -> list[Found]:
    """All files at and under some paths, sorted; unfinished writes of this package are not among them.

    Args:
        paths: files and folders.
        leave_out: files, and folders with all that is in them, that are passed over.

    Raises:
        StorageProblem: a path does not exist or cannot be listed, or no file was found.
    """
    found: list[Found] = []
    skipped = {path.resolve() for path in leave_out}
    for path in paths:
        if path.is_dir():
            found += _walk(path, skipped)
        elif path.is_file():
            found.append(Found(path, path.name, path.stat().st_size))
        elif path.exists():
            raise StorageProblem(f"{path} is neither a file nor a folder.")
        else:
            raise StorageProblem(f"There is no file or folder {path}.")
    if not found:
        raise StorageProblem(f"No file to work on in {', '.join(str(path) for path in paths)}.")
    return found


def _walk(top: Path, skipped: set[Path]) -> list[Found]:
    def refuse(error: OSError) -> None:
        raise StorageProblem(f"Cannot list {error.filename}: {error.strerror}.") from error

    found = []
    base = top.resolve()
    for folder, folders, names in os.walk(base, onerror=refuse):
        folders[:] = sorted(name for name in folders if Path(folder, name) not in skipped)
        for name in sorted(names):
            path = Path(folder, name)
            if path in skipped or name.endswith(TEMPORARY_SUFFIX) or not path.is_file():
                continue
            inside = PurePosixPath(base.name, *path.relative_to(base).parts)
            found.append(Found(path, str(inside), path.stat().st_size))
    return found


@dataclass(frozen=True, slots=True)
class Protecting:
    """Work on a file: seal it into the vault, unless it is there already."""

    folder: Path
    vault_key: VaultKey = field(repr=False)
    form: Form = "container"
    names: Names = "hidden"
    certificates: tuple[bytes, ...] = ()
    """Recipients of the DICOM form's encrypted attributes, DER."""
    linkable: bool = True
    any_file: bool = False
    """Whether files that are called DICOM and are not are sealed as opaque bytes, rather than refused."""
    versions: Versions = field(default_factory=dict)

    def destination(self, found: Found) -> Path:
        """Where the sealed object of a file lies in the vault."""
        ending = ENDINGS[self.form]
        if self.names == "kept":
            return self.folder / (found.inside + ending)
        return self.folder / (_pseudonym(self.vault_key, str(found.path.resolve())) + ending)

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Seal one file.

        Raises:
            As `cipher.dicom.sealed.seal_dicom`; UnsupportedFormat also for a file that is called DICOM and cannot be
            read as such; WrongKey, Damaged, Replayed, and StorageProblem also about an object that is already there.
        """
        target = self.destination(found)
        try:
            found.inside.encode()
        except UnicodeEncodeError:
            raise StorageProblem(f"The name of {found.path!r} is not valid text; rename the file.") from None
        try:
            state = found.path.stat()
        except OSError as error:
            raise StorageProblem(f"Cannot read {found.path}: {error.strerror or error}.") from error
        private = {
            "modified_ns": str(state.st_mtime_ns),
            "origin": str(found.path.resolve()),
            "path": found.inside,
            "size": str(state.st_size),
        }
        before = self._existing(target, private) if target.exists() else None
        if before is not None and before[1]:
            moved(found.size)
            return Outcome("already there", str(target), before[0], found.size, target.stat().st_size)
        layout = lay_out(found.path)
        self._refuse_unreadable(found, layout)
        make_folder(target.parent)
        made = seal_dicom(
            found.path,
            target,
            self.vault_key,
            self.form,
            layout=layout,
            recipients=[x509.load_der_x509_certificate(der) for der in self.certificates],
            linkable=self.linkable,
            private=private,
            replaces=before[0] if before else None,
            progress=moved,
        )
        did = "sealed anew" if before else "sealed"
        return Outcome(did, str(target), made.version, state.st_size, target.stat().st_size, made.remark)

    def _existing(self, target: Path, private: dict[str, str]) -> tuple[ObjectVersion, bool]:
        """The version of the object that is there, and whether it holds the file as it is now."""
        try:
            with sealed_container(target) as (inner, bound):
                opening = Opening(inner, self.vault_key, associated=bound)
                _admit(self.versions, opening.version)
        except CipherError as error:
            raise type(error)(f"{target} is there already: {error}") from error
        if opening.opened.private.get("origin") != private["origin"]:
            raise StorageProblem(
                f"{target} is there already and holds another file. Choose another vault, or hidden names."
            )
        return opening.version, all(opening.opened.private.get(name) == value for name, value in private.items())

    def _refuse_unreadable(self, found: Found, layout: DicomLayout) -> None:
        if self.any_file or self.form == "dicom" or found.path.suffix.lower() not in DICOM_NAMES:
            return
        if not layout.is_dicom or "cannot be followed" in layout.remark:
            why = layout.remark if layout.is_dicom else "is none"
            raise UnsupportedFormat(
                f"{found.path.name} is called a DICOM file, but {why}. Give --any-file to seal it as opaque bytes."
            )


@dataclass(frozen=True, slots=True)
class Restoring:
    """Work on a sealed object: write the original file under a folder, where it was, with its time."""

    folder: Path
    vault_key: VaultKey = field(repr=False)
    overwrite: bool = False
    versions: Versions = field(default_factory=dict)

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Restore one object; an array becomes a NumPy file.

        Raises:
            As `cipher.dicom.sealed.open_dicom`; StorageProblem also where another file is in the way.
        """
        with sealed_container(found.path) as (inner, bound):
            opening = Opening(inner, self.vault_key, associated=bound)
            _admit(self.versions, opening.version)
            private, header = opening.opened.private, opening.header
            name = private.get("path") or opening.opened.name or found.path.stem
            target = self.folder / _inside(name + (".npy" if header.kind is Kind.ARRAY else ""))
            modified = _nanoseconds(private)
            if target.exists() and not self.overwrite:
                there = target.stat()
                if header.kind is not Kind.ARRAY and (there.st_size, there.st_mtime_ns) == (
                    header.payload_bytes,
                    modified,
                ):
                    moved(found.size)
                    return Outcome("already there", str(target), opening.version, header.payload_bytes, found.size)
                raise StorageProblem(f"{target} is there already and is another file; give --overwrite to replace it.")
            make_folder(target.parent)
            with atomic_write(target, mode=PRIVATE) as handle:
                if header.kind is Kind.ARRAY:
                    _write_npy_header(handle, header.segments[0])
                for piece in opening.payload():
                    handle.write(piece)
                    moved(len(piece))
                if modified is not None and os.utime in os.supports_fd:
                    handle.flush()  # or the bytes still in the buffer would move the time again
                    os.utime(handle.fileno(), ns=(modified, modified))
        return Outcome("restored", str(target), opening.version, header.payload_bytes, found.size)


@dataclass(frozen=True, slots=True)
class Verifying:
    """Work on a sealed object: check every tag, what is bound around it, and its version."""

    vault_key: VaultKey = field(repr=False)
    versions: Versions = field(default_factory=dict)

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Verify one object.

        Raises:
            As `cipher.dicom.sealed.open_dicom`.
        """
        with sealed_container(found.path) as (inner, bound):
            opening = Opening(inner, self.vault_key, associated=bound)
            _admit(self.versions, opening.version)
            opening.verify(moved)
        return Outcome("verified", str(found.path), opening.version, opening.header.payload_bytes, found.size)


@dataclass(frozen=True, slots=True)
class Rekeying:
    """Work on a sealed object: make another vault key the only one that opens it, in place."""

    old: VaultKey = field(repr=False)
    new: VaultKey = field(repr=False)

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Rekey one object.

        Raises:
            As `cipher.dicom.sealed.rekey_sealed`.
        """
        changed = rekey_sealed(found.path, self.old, self.new)
        moved(found.size)
        return Outcome("rekeyed" if changed else "already there", str(found.path), sealed_bytes=found.size)


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


def _admit(versions: Versions, version: ObjectVersion) -> None:
    expected = versions.get(version.object_id)
    if expected is not None:
        expected.admit(version)


def _nanoseconds(private: Mapping[str, str]) -> int | None:
    """When the original file was last changed, where `Protecting` sealed it."""
    try:
        return int(private["modified_ns"])
    except (KeyError, ValueError):
        return None


def _inside(name: str) -> Path:
    """A restored file's path below the folder; authentic, but whoever sealed it may have meant harm."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or set(name) & set("\\:\0"):
        raise UnsupportedFormat(
            f"The sealed object wants to be restored as {name!r}, which is no place inside a folder; it was not "
            "written."
        )
    return Path(*path.parts)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        StorageProblem: it cannot be made, or something else is in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageProblem(f"Cannot make the folder {folder}: {error.strerror or error}.") from error


def _write_npy_header(handle: BinaryIO, segment: Segment) -> None:
    npy.write_array_header_1_0(handle, {"descr": segment.dtype, "fortran_order": False, "shape": segment.shape})


def _pseudonym(vault_key: VaultKey, path: str) -> str:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"he-infer vault 1 file names").derive(vault_key.secret)
    return hmac.digest(key, path.encode(errors="surrogatepass"), "sha256")[:16].hex()
