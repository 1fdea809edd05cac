"""Choice of the sealed objects among files, and their comparison with the ledger."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cipher.errors import CipherError, StorageProblem
from cipher.vault.find import Found, Sort, survey
from cipher.vault.forms import describe_path, holds_sealed
from cipher.vault.ledger import Entry, Ledger
from cipher.vault.names import from_stored, to_stored
from cipher.vault.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Selection:
    """Sealed objects to work on."""

    objects: list[Found]
    others: int
    """Files and links in the folders that are no sealed objects."""
    folders: list[Path]
    """Folders that were asked for, resolved: they can be compared with the ledger."""
    problems: list[tuple[Found, CipherError]] = field(default_factory=list)
    """Paths that could not be read, with their errors."""


def select_sealed(paths: list[Path], *, leave_out: Sequence[Path] = (), ledger: Ledger | None = None) -> Selection:
    """The sealed objects at and under some paths.

    A file that is named is taken as it is, so that its own error is shown. A folder without any sealed object is
    refused, unless the ledger knows objects that should be there: these are then found missing.

    Raises:
        StorageProblem: a path does not exist, or there is no sealed object.
    """
    folders = [path.resolve() for path in paths if path.is_dir()]
    named = {path.resolve() for path in paths if not path.is_dir()}
    try:
        seen = survey(paths, leave_out=leave_out)
    except StorageProblem:
        if ledger is not None and folders and expected_in(ledger, {}, folders):
            return Selection([], 0, folders)
        raise
    objects, problems = [], list[tuple[Found, CipherError]](seen.problems)
    for found in seen.found:
        try:
            if found.path.resolve() in named or (found.sort is Sort.FILE and holds_sealed(found.path)):
                objects.append(found)
        except CipherError as error:
            problems.append((found, error))
    others = len(seen.found) - len(objects) + len(seen.passed_over)
    if not objects and not problems and not (ledger is not None and expected_in(ledger, {}, folders)):
        raise StorageProblem(
            f"There is no sealed object in {', '.join(str(path) for path in paths)} ({others} other files)."
        )
    return Selection(objects, others, folders, problems)


def compare_with_ledger(ledger: Ledger, selection: Selection, *, names: bool = True) -> list[str]:
    """Differences from the ledger, as text for a user: missing, doubled and renamed objects.

    An object's identifier is taken from its public header. A damaged object, whose own error is shown elsewhere, does
    not count as missing, even where its header cannot be read.

    Args:
        ledger: the ledger.
        selection: the objects that were found.
        names: whether objects must have the names that they were sealed with; an archive gives them others.
    """
    where = _places_by_object(selection)
    said = []
    for object_id, paths in where.items():
        if len(paths) > 1:
            said.append(f"doubled: object {object_id[:8]} lies in {', '.join(str(path) for path in sorted(paths))}")
    readable = {path for paths in where.values() for path in paths}
    unreadable = {found.path.resolve() for found in selection.objects} - readable
    expected = expected_in(ledger, where, selection.folders)
    for object_id, place in expected.items():
        name = from_stored(ledger.entries[object_id].stored) or object_id[:8]
        if object_id not in where:
            if place not in unreadable:
                said.append(f"missing: {place}, which holds {name}")
        elif names and len(where[object_id]) == 1 and where[object_id][0] != place:
            said.append(f"renamed: {place}, which holds {name}, is now {where[object_id][0]}")
    return said


def expected_in(ledger: Ledger, where: dict[str, list[Path]], folders: Iterable[Path]) -> dict[str, Path]:
    """The objects that should lie in some folders, and the path of each.

    A vault lies where the ledger says, or, if its folder was moved, where its objects are found under the names that
    the ledger has for them.

    Args:
        ledger: the ledger.
        where: object identifier -> paths at which it was found.
        folders: what was asked for, resolved.
    """
    homes: dict[str, set[Path]] = {}
    for object_id, paths in where.items():
        entry = ledger.entries.get(object_id)
        if entry is None or not entry.vault:
            continue
        parts = from_stored(entry.path).split("/")
        for path in paths:
            if list(path.parts[-len(parts) :]) == parts:
                homes.setdefault(entry.vault, set()).add(path.parents[len(parts) - 1])
    for vault, folder in ledger.vaults.items():
        homes.setdefault(vault, {Path(folder)})
    asked = list(folders)
    expected = {}
    for object_id, entry in ledger.entries.items():
        candidates = [home / from_stored(entry.path) for home in homes.get(entry.vault, ())]
        inside = [path for path in candidates if any(path.is_relative_to(folder) for folder in asked)]
        found = where.get(object_id, [])
        if inside:
            expected[object_id] = next((path for path in inside if path in found), inside[0])
    return expected


def record_as_found(ledger: Ledger, selection: Selection, outcomes: Sequence[Outcome]) -> list[str]:
    """Write the present state of the folders that were asked for into the ledger.

    Args:
        ledger: changed in place.
        selection: the objects that were found.
        outcomes: of the objects that were verified; only these are taken over.

    Returns:
        The changes, as text for a user.
    """
    said = []
    where = _places_by_object(selection)
    for object_id, place in expected_in(ledger, where, selection.folders).items():
        if object_id not in where:
            said.append(f"forgotten: {place}, which held {from_stored(ledger.entries[object_id].stored)}")
            ledger.forget(object_id)
    for outcome in outcomes:
        home = next(
            (folder for folder in selection.folders if Path(outcome.path).resolve().is_relative_to(folder)), None
        )
        if home is None or outcome.version is None:
            continue
        vault = ledger.vault_at(str(home), make=True) or ""
        entry = make_entry(outcome, vault, home)
        if ledger.entries.get(outcome.version.object_id) != entry:
            ledger.record(outcome.version.object_id, entry)
            said.append(f"recorded: {outcome.path}")
    return said


def object_ids(selection: Selection) -> set[str]:
    """The identifiers of the selected objects, as their public headers say."""
    return set(_places_by_object(selection))


def _places_by_object(selection: Selection) -> dict[str, list[Path]]:
    where: dict[str, list[Path]] = {}
    for found in selection.objects:
        try:
            where.setdefault(describe_path(found.path).container.version.object_id, []).append(found.path.resolve())
        except CipherError:
            continue
    return where


def make_entry(outcome: Outcome, vault: str, folder: Path) -> Entry:
    """Ledger record of an object that was sealed into, or found in, a vault's folder.

    Raises:
        ValueError: the object does not lie below the folder.
    """
    if outcome.version is None:
        raise ValueError(f"{outcome.path} has no version")
    inside = Path(outcome.path).resolve().relative_to(folder.resolve())
    return Entry(outcome.version.number, vault, to_stored(inside.as_posix()), outcome.stored, outcome.origin)
