"""The watcher's journal in one SQLite file: UIDs, times, counts and error messages, nothing else.

Journal and derived report UIDs together give exactly one report across crashes: an image is marked as reported after
the archive has confirmed its report, and a report that is sent again has the same UID.
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
    """State of an image."""

    WAITING = "waiting"
    REPORTED = "reported"
    REFUSED = "refused"
    """The guard refused the image, and refusals get no report."""
    FAILED = "failed"
    """Given up after several attempts."""


@dataclass(frozen=True)
class Trouble:
    """An image with a failed attempt that waits for the next one or was given up."""

    image: ImageEntry
    state: State
    attempts: int
    due: float
    """Unix seconds of the next attempt; meaningless once given up."""
    error: str


class Journal:
    """Opens the journal in a folder, created with mode 0700 if missing. Only one process can have it open.

    Args:
        folder: the journal's folder.
        model: id of the model. A journal belongs to one model, since an image is reported once for each journal.

    Raises:
        UsageError: another watcher uses the journal, or it belongs to another model.
        NotThisFormat, UnsupportedVersion: the file is no journal of this release.
        OSError: the folder cannot be created.
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
        """Close the file and release its lock."""
        self._database.close()
        self._lock.close()

    def mark(self, name: str) -> str | None:
        """Read a stored value, such as the position in a list of changes; None if it was never set."""
        row = self._database.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_mark(self, name: str, value: str) -> None:
        """Store a value for `mark`."""
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))

    def see_studies(self, studies: Iterable[StudyEntry], now: float) -> None:
        """Note the number of instances of studies. A changed number restarts the study's quiet time."""
        with self._database:
            self._database.executemany(
                "INSERT INTO studies (study, instances, changed) VALUES (?, ?, ?) ON CONFLICT (study) DO UPDATE SET "
                "changed = CASE WHEN instances = excluded.instances THEN changed ELSE excluded.changed END, "
                "instances = excluded.instances",
                [(entry.study, entry.instances, now) for entry in studies],
            )

    def see_stable(self, studies: Iterable[str], now: float, position: tuple[str, str]) -> None:
        """Note studies that the archive calls stable and the position in its list, in one transaction."""
        with self._database:
            self._database.executemany(
                "INSERT INTO studies (study, instances, changed, stable) VALUES (?, 0, ?, 1) ON CONFLICT (study) DO "
                "UPDATE SET stable = 1",
                [(study, now) for study in studies],
            )
            self._database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", position)

    def still_studies(self, now: float, quiet: float) -> list[StudyEntry]:
        """Studies to examine: called stable by the archive, or unchanged for `quiet` seconds."""
        rows = self._database.execute(
            "SELECT study, instances FROM studies WHERE stable = 1 OR (instances != examined AND changed <= ?) "
            "ORDER BY changed, study",
            (now - quiet,),
        )
        return [StudyEntry(study, instances) for study, instances in rows]

    def growing_studies(self) -> int:
        """Number of studies that still grow or were not examined yet."""
        count = self._database.execute("SELECT count(*) FROM studies WHERE stable = 1 OR instances != examined")
        return int(count.fetchone()[0])

    def add_images(self, study: StudyEntry, chosen: Sequence[ImageEntry], now: float) -> int:
        """Note a study's chosen images and that the study was examined; returns the number of new images."""
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
        """Count an attempt before it is made, so that an image that crashes the process is not tried for ever."""
        with self._database:
            self._database.executemany(
                "UPDATE images SET attempts = attempts + 1, due = ? + 2 * attempts, error = ? WHERE sop = ?",
                [(now, _INTERRUPTED, image.sop) for image in images],
            )

    def take_back(self, images: Sequence[ImageEntry], now: float) -> None:
        """Take back the count of an attempt that failed because archive or server did not answer."""
        with self._database:
            self._database.executemany(
                "UPDATE images SET attempts = attempts - 1, due = ?, error = '' WHERE sop = ? AND state = ?",
                [(now, image.sop, State.WAITING) for image in images],
            )

    def give_up_interrupted(self, most_attempts: int) -> int:
        """Give up images whose attempts all crashed the process; returns their number."""
        with self._database:
            changed = self._database.execute(
                "UPDATE images SET state = ? WHERE state = ? AND attempts >= ?",
                (State.FAILED, State.WAITING, most_attempts),
            )
        return changed.rowcount

    def due_images(self, now: float, most: int) -> list[ImageEntry]:
        """Images that are due, longest waiting first. Images with an earlier attempt come last and one at a time."""
        rows = self._database.execute(
            "SELECT study, series, sop, attempts FROM images WHERE state = ? AND due <= ? "
            "ORDER BY attempts > 0, due, found, study, sop LIMIT ?",
            (State.WAITING, now, most),
        ).fetchall()
        fresh = [ImageEntry(*row[:3]) for row in rows if row[3] == 0]
        # An image with an earlier attempt is tried alone, since it may crash the process.
        return fresh or [ImageEntry(*row[:3]) for row in rows[:1]]

    def finish(self, image: ImageEntry, state: State, now: float, reports: Sequence[str] = ()) -> None:
        """Mark an image as done: its reports are stored, or it needs no report."""
        with self._database:
            self._database.execute(
                "UPDATE images SET state = ?, finished = ?, reports = ?, error = '' WHERE sop = ?",
                (state, now, " ".join(reports), image.sop),
            )

    def fail(self, image: ImageEntry, error: str, now: float, *, most_attempts: int) -> None:
        """Note that the current attempt has failed. The delay doubles each time, until the image is given up."""
        row = self._database.execute("SELECT attempts FROM images WHERE sop = ?", (image.sop,)).fetchone()
        attempts = max(int(row[0]), 1)
        state = State.FAILED if attempts >= most_attempts else State.WAITING
        with self._database:
            self._database.execute(
                "UPDATE images SET attempts = ?, due = ?, state = ?, error = ? WHERE sop = ?",
                (attempts, now + back_off(attempts), state, error[:500], image.sop),
            )

    def is_done(self, sop: str) -> bool:
        """Whether an image has its reports or needs no report."""
        row = self._database.execute("SELECT state FROM images WHERE sop = ?", (sop,)).fetchone()
        return row is not None and row[0] in (State.REPORTED, State.REFUSED)

    def retry_failed(self, now: float) -> int:
        """Make all given-up images due again; returns their number."""
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
        """Images with a failed attempt that are not done; given-up images come first."""
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
    """Lock the folder until the connection is closed or this process ends."""
    lock = sqlite3.connect(_private(folder / LOCK), timeout=0, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        raise UsageError(
            f"Another watcher uses the journal in {folder}. Stop it first, or give this one another --journal."
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
    """Present time, Unix seconds."""
    return time.time()
