"""The watcher's journal in one SQLite file: UIDs, times, counts and error messages, nothing else.

It makes reports exactly once over crashes together with the reports' derived UIDs: an image is marked as reported after
the archive has confirmed its report, and a report that is sent again is the same object.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from he_infer.client.pacs.entries import ImageEntry, StudyEntry
from he_infer.errors import NotThisFormat, UnsupportedVersion, UsageError

FILE, LOCK = "journal.sqlite", "journal.lock"
VERSION = 1
_INTERRUPTED = "The process ended during the attempt."
_TABLES = """
CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE studies (
    study TEXT PRIMARY KEY, instances INTEGER NOT NULL, changed REAL NOT NULL,
    examined INTEGER NOT NULL DEFAULT -1, stable INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE images (
    sop TEXT PRIMARY KEY, series TEXT NOT NULL, study TEXT NOT NULL, state TEXT NOT NULL, found REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, finished REAL, reports TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX images_due ON images (state, due);
"""


class State(StrEnum):
    """Where an image stands."""

    WAITING = "waiting"
    REPORTED = "reported"
    REFUSED = "refused"
    """The guard refused it, and no report of refusals is wanted."""
    FAILED = "failed"
    """Given up after several attempts."""


@dataclass(frozen=True)
class Trouble:
    """An image that could not be reported yet, or was given up."""

    image: ImageEntry
    state: State
    attempts: int
    due: float
    """Unix seconds of the next attempt; of no meaning once given up."""
    error: str


class Journal:
    """Opens the journal in a folder of mode 0700, made where it is missing; one process at a time.

    Args:
        folder: where the journal is.
        model: what the images are classified with: an image is reported once for each journal, so a journal belongs
            to one model.

    Raises:
        UsageError: another watcher has it, or it belongs to another model.
        NotThisFormat, UnsupportedVersion: the file is no journal of this release.
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path, model: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _take_lock(folder)
        try:
            self._database = _open(folder / FILE)
        except BaseException:
            self._lock.close()
            raise
        known = self.mark("model")
        if known is None:
            self.set_mark("model", model)
        elif known != model:
            self.close()
            raise UsageError(
                f"The journal in {folder} belongs to the model '{known}', not '{model}'. Give another --journal."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._database.close()
        self._lock.close()

    def mark(self, name: str) -> str | None:
        """A remembered value, such as the position in a list of changes; None where there is none."""
        row = self._database.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_mark(self, name: str, value: str) -> None:
        """Remember a value."""
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))

    def see_studies(self, studies: Iterable[StudyEntry], now: float) -> None:
        """Note how many instances studies have; a study whose number changed begins to be still now."""
        with self._database:
            self._database.executemany(
                "INSERT INTO studies (study, instances, changed) VALUES (?, ?, ?) ON CONFLICT (study) DO UPDATE SET "
                "changed = CASE WHEN instances = excluded.instances THEN changed ELSE excluded.changed END, "
                "instances = excluded.instances",
                [(entry.study, entry.instances, now) for entry in studies],
            )

    def see_stable(self, studies: Iterable[str], now: float, position: tuple[str, str]) -> None:
        """Note studies that the archive itself calls stable, and the position in its list, in one step."""
        with self._database:
            self._database.executemany(
                "INSERT INTO studies (study, instances, changed, stable) VALUES (?, 0, ?, 1) ON CONFLICT (study) DO "
                "UPDATE SET stable = 1",
                [(study, now) for study in studies],
            )
            self._database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", position)

    def still_studies(self, now: float, quiet: float) -> list[StudyEntry]:
        """Studies to look into: called stable, or unchanged for `quiet` seconds since they grew."""
        rows = self._database.execute(
            "SELECT study, instances FROM studies WHERE stable = 1 OR (instances != examined AND changed <= ?) "
            "ORDER BY changed, study",
            (now - quiet,),
        )
        return [StudyEntry(study, instances) for study, instances in rows]

    def growing_studies(self) -> int:
        """Number of studies that are not still yet, or not looked into."""
        count = self._database.execute("SELECT count(*) FROM studies WHERE stable = 1 OR instances != examined")
        return int(count.fetchone()[0])

    def add_images(self, study: StudyEntry, chosen: Sequence[ImageEntry], now: float) -> int:
        """Note a study's chosen images, and that the study was looked into; gives how many of them are new."""
        with self._database:
            before = self._database.total_changes
            self._database.executemany(
                "INSERT OR IGNORE INTO images (sop, series, study, state, found) VALUES (?, ?, ?, ?, ?)",
                [(image.sop, image.series, image.study, State.WAITING, now) for image in chosen],
            )
            new = self._database.total_changes - before
            self._database.execute(
                "UPDATE studies SET instances = ?, examined = ?, stable = 0 WHERE study = ?",
                (study.instances, study.instances, study.study),
            )
        return new

    def begin(self, images: Sequence[ImageEntry], now: float) -> None:
        """Count an attempt before it is made, so that an image which ends the process is not tried for ever."""
        with self._database:
            self._database.executemany(
                "UPDATE images SET attempts = attempts + 1, due = ? + 2 * attempts, error = ? WHERE sop = ?",
                [(now, _INTERRUPTED, image.sop) for image in images],
            )

    def take_back(self, images: Sequence[ImageEntry], now: float) -> None:
        """Uncount an attempt that came to nothing through no fault of the images: archive or server were away."""
        with self._database:
            self._database.executemany(
                "UPDATE images SET attempts = attempts - 1, due = ?, error = '' WHERE sop = ? AND state = ?",
                [(now, image.sop, State.WAITING) for image in images],
            )

    def give_up_interrupted(self, most_attempts: int) -> int:
        """Give up images whose attempts all ended with the process; gives their number."""
        with self._database:
            changed = self._database.execute(
                "UPDATE images SET state = ? WHERE state = ? AND attempts >= ?",
                (State.FAILED, State.WAITING, most_attempts),
            )
        return changed.rowcount

    def due_images(self, now: float, most: int) -> list[ImageEntry]:
        """Images whose turn it is, the longest waiting first; those of an earlier attempt come later and one by one."""
        rows = self._database.execute(
            "SELECT study, series, sop, attempts FROM images WHERE state = ? AND due <= ? "
            "ORDER BY attempts > 0, due, found, study, sop LIMIT ?",
            (State.WAITING, now, most),
        ).fetchall()
        fresh = [ImageEntry(*row[:3]) for row in rows if row[3] == 0]
        # An image that failed or was interrupted before goes alone: it may be the one that brings the process down.
        return fresh or [ImageEntry(*row[:3]) for row in rows[:1]]

    def next_due(self) -> float | None:
        """Unix seconds of the next attempt; None where nothing waits."""
        row = self._database.execute("SELECT min(due) FROM images WHERE state = ?", (State.WAITING,)).fetchone()
        return None if row[0] is None else float(row[0])

    def finish(self, image: ImageEntry, state: State, now: float, reports: Sequence[str] = ()) -> None:
        """Note that an image is done: its reports are stored, or it needs none."""
        with self._database:
            self._database.execute(
                "UPDATE images SET state = ?, finished = ?, reports = ?, error = '' WHERE sop = ?",
                (state, now, " ".join(reports), image.sop),
            )

    def fail(self, image: ImageEntry, error: str, now: float, *, most_attempts: int) -> None:
        """Note that the attempt begun has failed: the next one is due later and later, until it is given up."""
        row = self._database.execute("SELECT attempts FROM images WHERE sop = ?", (image.sop,)).fetchone()
        attempts = max(int(row[0]), 1)
        state = State.FAILED if attempts >= most_attempts else State.WAITING
        with self._database:
            self._database.execute(
                "UPDATE images SET attempts = ?, due = ?, state = ?, error = ? WHERE sop = ?",
                (attempts, now + back_off(attempts), state, error[:500], image.sop),
            )

    def is_done(self, sop: str) -> bool:
        """Whether an image has its reports, or needs none."""
        row = self._database.execute("SELECT state FROM images WHERE sop = ?", (sop,)).fetchone()
        return row is not None and row[0] in (State.REPORTED, State.REFUSED)

    def retry_failed(self, now: float) -> int:
        """Let all images that were given up be tried again; gives their number."""
        with self._database:
            changed = self._database.execute(
                "UPDATE images SET state = ?, attempts = 0, due = ? WHERE state = ?",
                (State.WAITING, now, State.FAILED),
            )
        return changed.rowcount

    def counts(self) -> dict[str, int]:
        """Number of images in each state."""
        found = dict(self._database.execute("SELECT state, count(*) FROM images GROUP BY state"))
        return {str(state): int(found.get(str(state), 0)) for state in State}

    def troubles(self) -> list[Trouble]:
        """Images with a failed attempt that are not done, those given up first."""
        rows = self._database.execute(
            "SELECT study, series, sop, state, attempts, due, error FROM images WHERE error != '' ORDER BY state, due"
        )
        return [
            Trouble(ImageEntry(study, series, sop), State(state), attempts, due, error)
            for study, series, sop, state, attempts, due, error in rows
        ]


def back_off(attempts: int) -> float:
    """Seconds until the next attempt: 10, 20, 40, ... at most an hour."""
    return float(min(10 * 2 ** (attempts - 1), 3600))


def _take_lock(folder: Path) -> sqlite3.Connection:
    """Hold the folder as long as the connection is open, and no longer than this process lives."""
    lock = sqlite3.connect(_private(folder / LOCK), timeout=0, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        raise UsageError(
            f"Another watcher has the journal in {folder}. Stop it first, or give this one another --journal."
        ) from error
    except sqlite3.DatabaseError as error:
        lock.close()
        raise NotThisFormat(f"{folder / LOCK} is not a lock of a journal; give another --journal.") from error
    return lock


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(_private(path), timeout=10, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        with closing(database.execute("PRAGMA user_version")) as rows:
            version = int(rows.fetchone()[0])
        if version == 0:
            with database:
                database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    except sqlite3.DatabaseError as error:
        database.close()
        raise NotThisFormat(f"{path} is no journal, or it is damaged. Restore it, or move it away.") from error
    if version not in (0, VERSION):
        database.close()
        raise UnsupportedVersion(f"{path} is a journal of version {version}; this release reads {VERSION}.")
    return database


def _private(path: Path) -> Path:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return path


def unix_now() -> float:
    """Unix seconds."""
    return time.time()
