"""Work of protect, restore, verify and rekey on many files: with progress, and with totals at the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.terminal import show_progress

if TYPE_CHECKING:
    from cipher.errors import CipherError
    from cipher.files.folder_syncs import FolderSyncs
    from cipher.vault.batch import Work
    from cipher.vault.find import Found
    from cipher.vault.outcome import Outcome
    from cipher.vault.tally import Tally

Sources = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, max=256, help="Files worked on at a time; by the number of cores if not given.")
]

INTERRUPTED = 130
_SHOWN = 20
"""Most lines of one kind that are shown on the screen."""


def work_on(
    verb: str,
    work: "Work[Found, Outcome]",
    items: "Sequence[Found]",
    jobs: int | None,
    syncs: "FolderSyncs | None" = None,
) -> "Tally":
    """Do `work` on all items, with a progress bar on a terminal; arguments as `cipher.vault.tally.work_on`.

    Raises:
        StorageProblem: a worker process died, or a folder could not be flushed.
    """
    from cipher.vault import tally
    from he_infer.machine import usable_cores

    with show_progress(f"{verb} 0/{len(items)}", sum(found.size for found in items), unit="bytes") as show:
        return tally.work_on(
            verb,
            work,
            items,
            jobs=jobs,
            cores=usable_cores(),
            syncs=syncs,
            progress=lambda done, moved: show(moved, label=f"{verb} {done}/{len(items)}"),
        )


def conclude(tally: "Tally", json_file: Path | None) -> None:
    """Print the totals and end the command: 0 if all went well, 1 if anything failed or is missing, 130 if stopped.

    Raises:
        CipherError: the error of the only item.
        typer.Exit: as above.
    """
    from cipher.vault.outcome import Did
    from he_infer.files import write_json

    if json_file is not None:
        write_json(json_file, tally.figures())
    items = len(tally.outcomes) + len(tally.failures)
    if items == 1 and tally.failures and not tally.interrupted and not tally.discrepancies:
        raise tally.failures[0][1]
    _print_remarks(tally)
    _print_some([f"passed over: {path}: {why}" for path, why in tally.passed_over])
    print_failures(tally.failures)
    _print_some(tally.discrepancies)
    parts = [f"{did.value} {count}" for did in Did if (count := tally.count(did))]
    for label, count in (
        ("failed", len(tally.failures)),
        ("not as recorded", len(tally.discrepancies)),
        ("passed over", len(tally.passed_over)),
        ("not sealed objects", tally.not_sealed),
    ):
        if count:
            parts.append(f"{label} {count}")
    size = tally.worked_bytes() / 1e6
    speed = f", {size / tally.seconds:.1f} MB/s" if size and tally.seconds else ""
    where = f", {tally.jobs} files at a time" if tally.jobs > 1 else ""
    typer.echo(
        f"{tally.verb}: {'; '.join(parts) or 'nothing done'} ({size:.1f} MB in {tally.seconds:.1f} s{speed}{where})"
    )
    if tally.interrupted:
        typer.echo("Interrupted; every object is whole. Run the same command again to continue.", err=True)
        raise typer.Exit(INTERRUPTED)
    if not tally.complete:
        raise typer.Exit(1)


def print_failures(failures: "Sequence[tuple[Found, CipherError]]") -> None:
    """Print one line for each item that failed."""
    _print_some([f"failed: {found.path}: {' '.join(str(error).split())}" for found, error in failures])


def _print_some(lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        typer.echo(_printable(line), err=True)
    if len(lines) > _SHOWN:
        typer.echo(f"and {len(lines) - _SHOWN} more like this (--json FILE lists them)", err=True)


def _print_remarks(tally: "Tally") -> None:
    """One line for each remark, with how many files it is about."""
    files: dict[str, list[str]] = {}
    for found, outcome in tally.outcomes:
        if outcome.remark:
            files.setdefault(f"{outcome.remark}; sealed byte for byte all the same", []).append(found.path.name)
        if outcome.note:
            files.setdefault(outcome.note, []).append(found.path.name)
    for remark, names in files.items():
        which = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        typer.echo(_printable(f"note: {which}: {remark}"))


def _printable(text: str) -> str:
    """The text without control characters and bytes that are no text: others choose a file's name."""
    return "".join(char if char.isprintable() else "?" for char in text)
