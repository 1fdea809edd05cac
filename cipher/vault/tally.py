"""Totals over the items of a command."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cipher.errors import CipherError
from cipher.files.folder_syncs import FolderSyncs
from cipher.vault.batch import Work, run_batch
from cipher.vault.find import Found
from cipher.vault.outcome import Did, Outcome

_WORTH_PROCESSES = 8 << 20
"""Bytes below which starting worker processes takes longer than the work."""
_THREADS = importlib.util.find_spec("numba") is not None
"""Whether jobs are threads: numba's loops leave the interpreter's lock, numpy's do in part only."""
_THREADS_A_CORE = 2
"""Threads for each core: while one thread waits for the disk, another computes."""


@dataclass(slots=True)
class Tally:
    """Outcomes, failures and remarks."""

    verb: str
    outcomes: list[tuple[Found, Outcome]] = field(default_factory=list)
    failures: list[tuple[Found, CipherError]] = field(default_factory=list)
    discrepancies: list[str] = field(default_factory=list)
    """Differences from the ledger: missing, doubled, renamed objects."""
    passed_over: list[tuple[Path, str]] = field(default_factory=list)
    """Paths that were not worked on, and why."""
    seconds: float = 0.0
    jobs: int = 1
    """Items that were worked on at a time."""
    interrupted: bool = False
    not_sealed: int = 0
    """Files in the folders that are no sealed objects."""

    @property
    def complete(self) -> bool:
        """Whether everything was done and nothing is missing."""
        return not (self.failures or self.discrepancies or self.interrupted)

    def count(self, did: Did) -> int:
        """Number of items with this outcome."""
        return sum(outcome.did is did for _, outcome in self.outcomes)

    def worked_bytes(self) -> int:
        """Bytes of the files that something was done with."""
        return sum(found.size for found, outcome in self.outcomes if outcome.did is not Did.ALREADY_THERE)

    def figures(self) -> dict[str, object]:
        """All of it, for JSON."""
        return {
            "command": self.verb,
            "files": len(self.outcomes) + len(self.failures),
            "done": len(self.outcomes) - self.count(Did.ALREADY_THERE),
            "already_there": self.count(Did.ALREADY_THERE),
            "failed": len(self.failures),
            "discrepancies": self.discrepancies,
            "passed_over": [{"path": str(path), "why": why} for path, why in self.passed_over],
            "not_sealed": self.not_sealed,
            "interrupted": self.interrupted,
            "bytes": self.worked_bytes(),
            "seconds": round(self.seconds, 3),
            "mb_per_s": round(self.worked_bytes() / 1e6 / self.seconds, 2) if self.seconds else None,
            "jobs": self.jobs,
            "objects": [
                {
                    "source": str(found.path),
                    "did": outcome.did.value,
                    "path": outcome.path,
                    "object_id": outcome.version.object_id if outcome.version else None,
                    "version": outcome.version.number if outcome.version else None,
                    "plain_bytes": outcome.plain_bytes,
                    "sealed_bytes": outcome.sealed_bytes,
                    "remark": outcome.remark,
                    "note": outcome.note,
                }
                for found, outcome in self.outcomes
            ],
            "failures": [
                {"source": str(found.path), "error": type(error).__name__, "message": str(error)}
                for found, error in self.failures
            ],
        }


def work_on(
    verb: str,
    work: Work[Found, Outcome],
    items: Sequence[Found],
    *,
    jobs: int | None = None,
    cores: int = 1,
    syncs: FolderSyncs | None = None,
    progress: Callable[[int, int], None] = lambda done, moved: None,
) -> Tally:
    """Do `work` on all items.

    Args:
        verb: name of the tally.
        work: the work on one item.
        items: the items to work on.
        jobs: items to work on at a time; by the cores, where there is enough to do, if not given.
        cores: cores that may be used.
        syncs: folders that the work collects; they are flushed at the end.
        progress: called with the items done and the bytes moved.

    Raises:
        StorageProblem: a worker process died, or a folder could not be flushed.
    """
    total = sum(found.size for found in items)
    if jobs is None:
        jobs = _THREADS_A_CORE * cores if _THREADS else cores if total > _WORTH_PROCESSES else 1
    tally = Tally(verb, jobs=max(1, min(jobs, len(items))))
    moved_bytes = 0

    def moved(count: int) -> None:
        nonlocal moved_bytes
        moved_bytes += count
        progress(len(tally.outcomes) + len(tally.failures), moved_bytes)

    def done(index: int, result: Any) -> None:
        kept = tally.failures if isinstance(result, Exception) else tally.outcomes
        kept.append((items[index], result))
        moved(0)

    began = time.perf_counter()
    try:
        tally.interrupted = not run_batch(work, items, jobs=jobs, threads=_THREADS, moved=moved, done=done)
    finally:
        if syncs is not None:
            syncs.finish()
    tally.seconds = time.perf_counter() - began
    place = {found.path: index for index, found in enumerate(items)}
    tally.outcomes.sort(key=lambda pair: place[pair[0].path])
    tally.failures.sort(key=lambda pair: place[pair[0].path])
    return tally
