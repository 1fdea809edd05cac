"""Sealing into a vault: a folder of sealed objects, made from files, links and empty folders.

The sealed object of a file is found again without a catalogue: by default the object's name is a keyed
pseudonym of the file's path, so that neither names nor folders show; the path itself, size and time of the file are
sealed inside. A second run leaves alone what is already there and unchanged; a changed file is sealed as the next
version of its object.
"""

import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cipher.container.api import ObjectVersion, Options, seal_bytes
from cipher.container.describe import describe
from cipher.container.opening import Opening
from cipher.container.sealing import Progress
from cipher.errors import CipherError, StorageProblem, UnsupportedFormat
from cipher.files.atomic import write_bytes
from cipher.files.folder_syncs import FolderSyncs
from cipher.files.tree import make_folder
from cipher.keys.recipient_key import key_id_of
from cipher.keys.vault_key import VaultKey
from cipher.vault.find import Found, Sort
from cipher.vault.forms import ENDINGS, Form, lay_out, seal_path, sealed_container
from cipher.vault.ledger import Ledger
from cipher.vault.names import from_stored, to_stored
from cipher.vault.outcome import Did, Outcome

if TYPE_CHECKING:
    from cipher.dicom.region import Region
    from cipher.dicom.span import DicomLayout

Names: TypeAlias = Literal["hidden", "kept"]
Versions: TypeAlias = Mapping[str, ObjectVersion]
"""Object identifier -> the version that it should have, or a later one: a ledger's content."""

DICOM_NAMES = frozenset([".dcm", ".dicom", ".dcim", ".ima"])
"""Endings of the names of DICOM files."""

SEALED_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Protecting:
    """Work on an item: seal it into the vault, unless it is there already."""

    folder: Path
    vault_key: VaultKey = field(repr=False)
    form: Form = "container"
    names: Names = "hidden"
    certificates: tuple[bytes, ...] = ()
    """Recipients of the DICOM form's encrypted attributes, DER."""
    shared: tuple[tuple[bytes, bool], ...] = ()
    """X25519 public keys that open every object besides the vault's key, and whether each is for recovery."""
    linkable: bool = True
    project: str = ""
    """Pseudonyms of the DICOM form are stable within a project, and those of two projects cannot be linked."""
    region: "Region | None" = field(default=None, compare=False)
    """Pixels that the region form seals."""
    any_file: bool = False
    """Whether files that are called DICOM and are not are sealed as opaque bytes, rather than refused."""
    versions: Versions = field(default_factory=dict)
    syncs: FolderSyncs | None = field(default=None, compare=False)
    """Collects the vault's folders, which the caller has flushed before it acknowledges the objects in them; each is
    flushed with each object if not given."""

    def destination(self, found: Found) -> Path:
        """Path of the sealed object of an item in the vault."""
        ending = ENDINGS[self.form if found.sort is Sort.FILE else "container"]
        if self.names == "kept":
            return self.folder / (found.inside + ending)
        place = f"{found.origin}\0{self.project}" if self.project else found.origin
        return self.folder / (_pseudonym(self.vault_key, place) + ending)

    def __call__(self, found: Found, moved: Progress) -> Outcome:
        """Seal one item. A link is sealed as the name that it points to, an empty folder as nothing but its path.

        Raises:
            As `cipher.vault.forms.seal_path`; UnsupportedFormat also for a file that is called DICOM and cannot be
            read as such; WrongKey, Damaged, Replayed, and StorageProblem also about an object that is already there.
        """
        target = self.destination(found)
        try:
            state = found.path.lstat() if found.sort is Sort.LINK else found.path.stat()
            link = str(found.path.readlink()) if found.sort is Sort.LINK else ""
        except OSError as error:
            raise StorageProblem(f"Cannot read {found.path}: {error.strerror or error}.") from error
        private = {"origin": to_stored(found.origin), "path": to_stored(found.inside), "sort": found.sort.value}
        if self.project:
            private["project"] = self.project
        if found.sort is Sort.FILE:
            private |= {"modified_ns": str(state.st_mtime_ns), "size": str(state.st_size)}
        if found.sort is Sort.FILE and self.region is not None:
            private["region"] = self.region.digest()
        if found.sort is Sort.LINK:
            private["link"] = to_stored(link)
        before = self._existing(target, private) if os.path.lexists(target) else None
        done = Outcome(Did.ALREADY_THERE, str(target), stored=private["path"], origin=private["origin"])
        if before is not None and before[1]:
            moved(found.size)
            sealed_bytes = target.stat().st_size
            lacking = {key_id_of(public).hex() for public, recovery in self._shared() if not recovery} - before[2]
            note = f"is there already and stays closed to {_short(lacking)}; he-infer share opens it" if lacking else ""
            return replace(done, version=before[0], plain_bytes=found.size, sealed_bytes=sealed_bytes, note=note)
        make_folder(target.parent)
        done = replace(done, did=Did.SEALED_ANEW if before else Did.SEALED, plain_bytes=state.st_size)
        follows = before[0] if before else None
        lost = before[2] - {key_id_of(public).hex() for public, _ in self._shared()} if before else set()
        done = replace(done, note=f"is no longer shared with {_short(lost)}, as the file changed" if lost else "")
        if found.sort is not Sort.FILE:
            options = Options(private=private, replaces=follows, recipients=self._shared())
            sealed = seal_bytes(b"", self.vault_key, options=options)
            write_bytes(target, sealed, mode=SEALED_MODE, syncs=self.syncs)
            moved(found.size)
            if link and not _stays_inside(found.inside, link):
                done = replace(done, note=f"a link that leads out of its tree: {link}")
            return replace(done, version=describe(sealed).version, sealed_bytes=len(sealed))
        layout = lay_out(found.path)
        self._refuse_unreadable(found, layout)
        made = seal_path(
            found.path,
            target,
            self.vault_key,
            self.form,
            layout=layout,
            recipients=[x509.load_der_x509_certificate(der) for der in self.certificates],
            shared=self._shared(),
            linkable=self.linkable,
            project=self.project,
            region=self.region,
            private=private,
            replaces=follows,
            progress=moved,
            syncs=self.syncs,
        )
        return replace(done, version=made.version, sealed_bytes=target.stat().st_size, remark=made.remark)

    def _shared(self) -> tuple[tuple[X25519PublicKey, bool], ...]:
        return tuple((X25519PublicKey.from_public_bytes(raw), recovery) for raw, recovery in self.shared)

    def _existing(self, target: Path, private: dict[str, str]) -> tuple[ObjectVersion, bool, set[str]]:
        """The version of the object that is there, whether it holds the item as it is now, and its recipients' ids."""
        try:
            with sealed_container(target) as (inner, bound):
                opening = Opening(inner, self.vault_key, associated=bound)
                admit(self.versions, opening.version)
        except CipherError as error:
            raise type(error)(f"{target} is there already: {error}") from error
        if opening.opened.private.get("origin") != private["origin"]:
            raise StorageProblem(
                f"{target} is there already and holds another file. Choose another vault, or hidden names."
            )
        if opening.opened.private.get("project", "") != self.project:
            raise StorageProblem(
                f"{target} is there already and belongs to another project. Choose another vault, or hidden names."
            )
        same = all(opening.opened.private.get(name) == value for name, value in private.items())
        return opening.version, same, {recipient.key_id for recipient in opening.recipients}

    def _refuse_unreadable(self, found: Found, layout: "DicomLayout | None") -> None:
        if self.any_file or self.form != "container" or found.path.suffix.lower() not in DICOM_NAMES:
            return
        if layout is None:
            why = "is none"
        else:
            from cipher.dicom.span import Obstacle

            if layout.is_dicom and layout.obstacle is not Obstacle.UNREADABLE:
                return
            why = layout.remark if layout.is_dicom else "is none"
        raise UnsupportedFormat(
            f"{found.path.name} is called a DICOM file, but {why}. Give --any-file to seal it as opaque bytes."
        )


def admit(versions: Versions, version: ObjectVersion) -> None:
    """Check an object's version against the recorded one.

    Raises:
        Replayed: it is older.
    """
    expected = versions.get(version.object_id)
    if expected is not None:
        expected.admit(version)


def assign_stored_paths(found: Iterable[Found], ledger: Ledger, vault: str | None) -> list[Found]:
    """Give every item a stored path that no other file in the vault has.

    An item that was sealed before keeps its path. Where two files would be restored to one place (`IM0001` of two
    patients), the paths of what was named on the command line grow by the names of the folders above it.

    Args:
        found: the items; `inside` begins with the name of the file or folder that was asked for.
        ledger: the ledger as recorded.
        vault: identifier of the vault, if it is recorded.

    Raises:
        StorageProblem: two files would share a place even with their whole paths.
    """
    items = list(found)
    entries = [entry for entry in ledger.entries.values() if vault is not None and entry.vault == vault]
    known = {entry.origin: from_stored(entry.stored) for entry in entries}
    fixed = [_Place(from_stored(entry.stored), entry.origin, "", False) for entry in entries]
    origins = [to_stored(item.origin) for item in items]
    roots = {index: _root(item) for index, item in enumerate(items) if origins[index] not in known}
    depth = dict.fromkeys(roots.values(), 0)
    while True:
        fresh = [
            _Place(
                _prefix_folders(items[index], root, depth[root]), origins[index], root, items[index].sort is Sort.FOLDER
            )
            for index, root in roots.items()
        ]
        clashing = _clashing([*fixed, *fresh])
        if not clashing:
            break
        longer = [root for root in clashing if depth[root] < len(Path(root).parts) - 2]
        if not longer:
            raise StorageProblem(
                f"Files from {', '.join(sorted(clashing))} would be restored to one place. Seal them into two vaults."
            )
        for root in longer:
            depth[root] += 1
    paths = {index: known.get(origin, "") for index, origin in enumerate(origins)}
    paths.update(zip(roots, (place.path for place in fresh), strict=True))
    return [replace(item, inside=paths[index]) for index, item in enumerate(items)]


@dataclass(frozen=True, slots=True)
class _Place:
    """A place that a file would be restored to."""

    path: str
    origin: str
    root: str
    """Path of the command that it belongs to; empty for a file that is in the ledger already."""
    is_folder: bool


def _clashing(places: list[_Place]) -> set[str]:
    """The roots of the items whose place another file has, or whose folder is the place of another file."""
    owners: dict[str, set[str]] = {}
    folders = {
        "/".join(parts[:length]) for p in places for parts in [p.path.split("/")] for length in range(1, len(parts))
    }
    for place in places:
        owners.setdefault(place.path, set()).add(place.origin)
    bad = {p.path for p in places if len(owners[p.path]) > 1 or (p.path in folders and not p.is_folder and p.root)}
    below = tuple(path + "/" for path in bad)
    blocked = {p.path for p in places if p.path in folders and not p.is_folder}
    under = tuple(path + "/" for path in blocked)
    return {
        p.root for p in places if p.root and (p.path in bad or p.path.startswith(below) or p.path.startswith(under))
    }


def _root(item: Found) -> str:
    """The absolute path of the command's argument that this item belongs to."""
    parts = Path(item.origin).parts
    return str(Path(*parts[: len(parts) - len(item.inside.split("/")) + 1]))


def _prefix_folders(item: Found, root: str, depth: int) -> str:
    """The item's path, begun with the given number of folders above its root."""
    above = Path(root).parts[1:-1]
    return "/".join([*above[len(above) - min(depth, len(above)) :], item.inside])


def _stays_inside(inside: str, link: str) -> bool:
    """Whether a link's target lies in the tree that is sealed, going by the names alone."""
    if Path(link).is_absolute():
        return False
    place = os.path.normpath(PurePosixPath(inside).parent / link)
    return place.split("/")[0] == inside.split("/")[0]


def _short(key_ids: Iterable[str]) -> str:
    return ", ".join(key_id[:8] for key_id in sorted(key_ids))


def _pseudonym(vault_key: VaultKey, path: str) -> str:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"he-infer vault 1 file names").derive(vault_key.secret)
    return hmac.digest(key, os.fsencode(path), "sha256")[:16].hex()
