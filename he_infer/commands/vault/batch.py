"""What protect, restore, verify and rekey share: work on many files with progress, and say what came of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from he_infer.terminal import show_progress

if TYPE_CHECKING:
    from cipher.errors import CipherError
    from cipher.vault.batch import Work
    from cipher.vault.work import Found, Outcome

Sources = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, max=256, help="Worker processes; all cores, where there is enough to do.")
]

INTERRUPTED = 130
_WORTH_PROCESSES = 8 << 20
"""Bytes below which starting worker processes takes longer than the work."""
_SHOWN = 20
"""Failed files that are named on the screen."""


@dataclass(slots=True)
class Tally:
    """What came of the items of one command."""

    verb: str
    outcomes: "list[tuple[Found, Outcome]]" = field(default_factory=list)
    failures: "list[tuple[Found, CipherError]]" = field(default_factory=list)
    seconds: float = 0.0
    processes: int = 1
    interrupted: bool = False
    passed_over: int = 0
    """Files in the folders that are no sealed objects."""

    def count(self, did: str) -> int:
        """How many items this was done with."""
        return sum(outcome.did == did for _, outcome in self.outcomes)

    def worked_bytes(self) -> int:
        """Bytes of the files that something was done with."""
        return sum(found.size for found, outcome in self.outcomes if outcome.did != "already there")

    def figures(self) -> dict[str, object]:
        """All of it, for JSON."""
        return {
            "command": self.verb,
            "files": len(self.outcomes) + len(self.failures),
            "done": len(self.outcomes) - self.count("already there"),
            "already_there": self.count("already there"),
            "failed": len(self.failures),
            "not_sealed": self.passed_over,
            "interrupted": self.interrupted,
            "bytes": self.worked_bytes(),
            "seconds": round(self.seconds, 3),
            "mb_per_s": round(self.worked_bytes() / 1e6 / self.seconds, 2) if self.seconds else None,
            "processes": self.processes,
            "objects": [
                {
                    "source": str(found.path),
                    "did": outcome.did,
                    "path": outcome.path,
                    "object_id": outcome.version.object_id if outcome.version else None,
                    "version": outcome.version.number if outcome.version else None,
                    "plain_bytes": outcome.plain_bytes,
                    "sealed_bytes": outcome.sealed_bytes,
                    "remark": outcome.remark,
                }
                for found, outcome in self.outcomes
            ],
            "failures": [
                {"source": str(found.path), "error": type(error).__name__, "message": str(error)}
                for found, error in self.failures
            ],
        }


def sealed_among(paths: list[Path], leave_out: Sequence[Path]) -> "tuple[list[Found], int]":
    """The sealed objects at and under some paths, and how many other files lie in the folders.

    A file that is named is taken as it is, so that its own error is shown.

    Raises:
        StorageProblem: a path does not exist, or there is no sealed object.
    """
    from cipher.errors import StorageProblem
    from cipher.vault.work import find_files, holds_sealed

    named = {path.resolve() for path in paths if not path.is_dir()}
    found = find_files(paths, leave_out=leave_out)
    sealed = [file for file in found if file.path.resolve() in named or holds_sealed(file.path)]
    if not sealed:
        raise StorageProblem(
            f"There is no sealed object in {', '.join(str(path) for path in paths)} ({len(found)} other files)."
        )
    return sealed, len(found) - len(sealed)


def work_on(verb: str, work: "Work[Found, Outcome]", items: "list[Found]", jobs: int | None) -> Tally:
    """Do `work` on all items, with a progress bar on a terminal.

    Raises:
        StorageProblem: a worker process died.
    """
    from cipher.vault.batch import run_batch
    from he_infer.machine import usable_cores

    total = sum(found.size for found in items)
    processes = jobs or (usable_cores() if total > _WORTH_PROCESSES else 1)
    tally = Tally(verb, processes=min(processes, len(items)))
    began = time.perf_counter()
    moved_bytes = 0
    with show_progress(f"{verb} 0/{len(items)}", total, unit="bytes") as progress:

        def moved(count: int) -> None:
            nonlocal moved_bytes
            moved_bytes += count
            progress(moved_bytes)

        def done(index: int, result: Any) -> None:
            kept = tally.failures if isinstance(result, Exception) else tally.outcomes
            kept.append((items[index], result))
            number = len(tally.outcomes) + len(tally.failures)
            progress(moved_bytes, label=f"{verb} {number}/{len(items)}")

        tally.interrupted = not run_batch(work, items, processes=processes, moved=moved, done=done)
    tally.seconds = time.perf_counter() - began
    place = {found.path: index for index, found in enumerate(items)}
    tally.outcomes.sort(key=lambda pair: place[pair[0].path])
    tally.failures.sort(key=lambda pair: place[pair[0].path])
    return tally


def conclude(tally: Tally, json_file: Path | None) -> None:
    """Say what was done and end the command: 0 if all went well, 1 if an item failed, 130 after an interrupt.

    Raises:
        CipherError: of the one item there was.
        typer.Exit: as above.
    """
    from he_infer.files import write_json

    if json_file is not None:
        write_json(json_file, tally.figures())
    items = len(tally.outcomes) + len(tally.failures)
    if items == 1 and tally.failures and not tally.interrupted:
        raise tally.failures[0][1]
    _print_remarks(tally)
    for found, error in tally.failures[:_SHOWN]:
        typer.echo(f"failed: {found.path}: {' '.join(str(error).split())}", err=True)
    if len(tally.failures) > _SHOWN:
        typer.echo(f"failed: and {len(tally.failures) - _SHOWN} more (--json FILE lists them)", err=True)
    parts = [f"{did} {count}" for did in dict.fromkeys(o.did for _, o in tally.outcomes) if (count := tally.count(did))]
    if tally.failures:
        parts.append(f"failed {len(tally.failures)}")
    if tally.passed_over:
        parts.append(f"not sealed objects {tally.passed_over}")
    size = tally.worked_bytes() / 1e6
    speed = f", {size / tally.seconds:.1f} MB/s" if size and tally.seconds else ""
    where = f" on {tally.processes} processes" if tally.processes > 1 else ""
    typer.echo(
        f"{tally.verb}: {'; '.join(parts) or 'nothing done'} ({size:.1f} MB in {tally.seconds:.1f} s{speed}{where})"
    )
    if tally.interrupted:
        typer.echo("Interrupted; every object is whole. Run the same command again to continue.", err=True)
        raise typer.Exit(INTERRUPTED)
    if tally.failures:
        raise typer.Exit(1)


def _print_remarks(tally: Tally) -> None:
    """One line for each remark, with how many files it is about."""
    files: dict[str, list[str]] = {}
    for found, outcome in tally.outcomes:
        if outcome.remark:
            files.setdefault(outcome.remark, []).append(found.path.name)
    for remark, names in files.items():
        which = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        typer.echo(f"note: {which}: {remark}; sealed byte for byte all the same")
