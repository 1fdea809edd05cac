"""The watcher: finds studies that no longer grow, classifies the chosen images, and stores their reports.

A failure of one image concerns only that image: it is noted, tried again with growing delays, and finally given up.
While the archive or the server does not answer, everything waits and no attempt is counted.
"""

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from he_infer.client.pacs.entries import ImageEntry, StudyEntry
from he_infer.client.pacs.reports.findings import Findings
from he_infer.client.pacs.reports.kinds import build_reports
from he_infer.client.pacs.reports.source import read_source
from he_infer.client.pacs.reports.statement import Statement
from he_infer.client.pacs.reports.uids import ReportUids
from he_infer.client.pacs.watch.choice import Choice
from he_infer.client.pacs.watch.destinations import Destination
from he_infer.client.pacs.watch.journal import Journal, State, unix_now
from he_infer.client.pacs.watch.sources import Source
from he_infer.errors import ArchiveRefused, ArchiveUnreachable, ReportError, ServerError, WrongAnswer

_LONGEST_PAUSE = 60.0
"""Longest wait between two attempts while archive or server do not answer, seconds."""
WORK = "work"
"""Subfolder of the journal's folder for fetched images; emptied at every start."""


@dataclass(frozen=True)
class Outcome:
    """Result of one image: a statement, or the reason why there is none."""

    path: Path
    statement: Statement | None
    error: str = ""


Classify = Callable[[Sequence[Path]], Iterable[Outcome]]
"""Classifies image files; raises `ServerError` if the server does not answer."""


@dataclass(frozen=True)
class Settings:
    """Settings of the watcher."""

    choice: Choice = field(default_factory=Choice)
    kinds: tuple[str, ...] = ("sr",)
    report_refusals: bool = True
    """Whether to store reports of images that the guard refuses."""
    quiet_seconds: float = 60.0
    """Seconds without growth after which a study is examined, if the archive does not call it stable before."""
    most_attempts: int = 8
    batch: int = 16
    """Number of images that are fetched and classified together."""


@dataclass(frozen=True)
class Status:
    """Status of the watcher, for the status line and `/healthz`."""

    state: str = "starting"
    """`starting`, `working`, `watching`, `waiting` (archive or server do not answer) or `stopped`."""
    problem: str = ""
    since: float = 0.0
    """Unix seconds at which the state began."""
    last_round: float = 0.0
    """Unix seconds of the last complete look."""
    growing: int = 0
    counts: dict[str, int] = field(default_factory=dict)


class Watcher:
    """Classifies the images of one source and stores their reports, with one journal.

    Args:
        source: source of the images.
        destination: destination of the reports.
        classify: function from image files to outcomes.
        findings: the codes of the model's classes.
        uids: derives the reports' UIDs.
        journal: opened by the caller.
        folder: the journal's folder.
        settings: the watcher's settings.
        now: clock, Unix seconds; for tests.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        classify: Classify,
        findings: Findings,
        uids: ReportUids,
        journal: Journal,
        folder: Path,
        settings: Settings,
        *,
        now: Callable[[], float] = unix_now,
    ) -> None:
        self._source, self._destination, self._classify = source, destination, classify
        self._findings, self._uids, self._journal, self._settings = findings, uids, journal, settings
        self._now = now
        self._work = folder / WORK
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(mode=0o700)
        self.status = Status(since=now())

    def run_once(self) -> None:
        """Look once, and process all images that are due.

        Raises:
            ArchiveUnreachable, ArchiveRefused: the archive does not answer the search.
            ServerError: the server does not answer.
            HeInferError: an error that waiting does not fix, such as wrong keys or an untrustworthy answer.
        """
        self._set("working")
        self._journal.give_up_interrupted(self._settings.most_attempts)
        self._source.look(self._journal, self._now())
        for study in self._journal.still_studies(self._now(), self._settings.quiet_seconds):
            self._examine(study.study)
        while images := self._journal.due_images(self._now(), self._settings.batch):
            self._process(images)
            self._set("working")
        self.status = Status("watching", "", self._now(), self._now(), *self._tally())

    def run(
        self, stop: threading.Event, poll_seconds: float = 10.0, on_change: Callable[[], None] | None = None
    ) -> None:
        """Watch until `stop` is set. While archive or server do not answer, wait for growing times, at most a minute.

        Raises:
            HeInferError: an error that waiting does not fix.
        """
        pause = 0.0
        while not stop.is_set():
            try:
                self.run_once()
                pause = 0.0
            except WrongAnswer:
                self._set("stopped", "The server answered a test question wrongly.")
                raise
            except (ArchiveUnreachable, ArchiveRefused, ServerError) as error:
                pause = min(max(2 * pause, poll_seconds, 1.0), _LONGEST_PAUSE)
                self._set("waiting", " ".join(str(error).split()))
            if on_change:
                on_change()
            stop.wait(max(pause, poll_seconds))
        self._set("stopped")

    def _examine(self, study: str) -> None:
        size, images = self._source.images(study)
        chosen = [image for image in images if self._settings.choice.takes(image)]
        self._journal.add_images(StudyEntry(study, size), chosen, self._now())
        wanted = {image.sop for image in chosen}
        for image in images:
            if image.sop not in wanted:
                self._source.release(image)

    def _process(self, images: list[ImageEntry]) -> None:
        self._journal.begin(images, self._now())
        open_ = dict.fromkeys(images)
        try:
            files = {}
            for number, image in enumerate(images):
                try:
                    files[self._source.fetch(image, self._work / f"{number}.dcm")] = image
                except ArchiveRefused as error:
                    self._fail(image, error)
                    del open_[image]
            for outcome in self._classified(files):
                image = files[outcome.path]
                try:
                    self._finish(image, outcome)
                except (ArchiveRefused, ReportError) as error:
                    self._fail(image, error)
                del open_[image]
        except (ArchiveUnreachable, ServerError, WrongAnswer):
            self._journal.take_back(list(open_), self._now())
            raise
        finally:
            for path in self._work.iterdir():
                path.unlink()
        for image in open_:
            self._fail(image, ReportError("The image was not classified, and no reason was given."))

    def _classified(self, files: dict[Path, ImageEntry]) -> Iterator[Outcome]:
        if files:
            yield from self._classify(list(files))

    def _finish(self, image: ImageEntry, outcome: Outcome) -> None:
        if outcome.statement is None:
            self._fail(image, ReportError(outcome.error))
            return
        if outcome.statement.refusal is not None and not self._settings.report_refusals:
            self._journal.finish(image, State.REFUSED, self._now())
        else:
            source = read_source(outcome.path)
            reports = build_reports(self._settings.kinds, outcome.statement, source, self._findings, self._uids)
            self._destination.store(reports)
            uids = [str(report.SOPInstanceUID) for report in reports]
            self._journal.finish(image, State.REPORTED, self._now(), uids)
        self._source.release(image)

    def _fail(self, image: ImageEntry, error: Exception) -> None:
        # A message may name the temporary file, which means nothing to the user.
        text = " ".join(str(error).split()).replace(str(self._work), "")
        self._journal.fail(image, text, self._now(), most_attempts=self._settings.most_attempts)

    def _set(self, state: str, problem: str = "") -> None:
        since = self.status.since if state == self.status.state else self._now()
        self.status = Status(state, problem, since, self.status.last_round, *self._tally())

    def _tally(self) -> tuple[int, dict[str, int]]:
        return self._journal.growing_studies(), self._journal.counts()
