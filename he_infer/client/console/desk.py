"""The images on the page, their results, and the one job that classifies them. Safe to use from several threads.

It stays when the page is reloaded, and all tabs show the same one. Files are kept in a private folder that is removed
at the end.
"""

import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from he_infer.client.client import Client
from he_infer.client.console.history import History, Record
from he_infer.client.pacs.reports.statement import digest_receipt
from he_infer.client.results import Result, RunReport
from he_infer.errors import HeInferError, ServerError, UsageError
from models.errors import ModelsError

MOST_FILES = 5000
MOST_BYTES = 8 * 2**30
_LONGEST_NAME = 200


class State(StrEnum):
    """State of an image."""

    READY = "ready"
    UNREADABLE = "unreadable"
    WAITING = "waiting"
    """The image is part of the running job."""
    DONE = "classified"
    REFUSED = "not classified"


@dataclass(frozen=True)
class Item:
    """An image on the page."""

    id: str
    name: str
    """File name from the browser: text to show, never used as a path."""
    path: Path
    size: int
    state: State = State.READY
    note: str = ""
    """Reason why the image is unreadable or was not classified."""
    result: Result | None = None
    reported: str = ""
    """Place where its report was stored."""

    @property
    def text(self) -> str:
        """Text that a search of the list looks through, case-folded."""
        result = self.result
        about = (result.label, result.identifiers.study, result.identifiers.accession) if result else ()
        return " ".join(word for word in (self.name, self.state, self.note, *about) if word).casefold()


@dataclass(frozen=True)
class Job:
    """A run over some of the images."""

    items: tuple[str, ...]
    done: int = 0
    running: bool = True
    problem: str = ""
    """Reason why the job ended early."""
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    requests: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Seconds left, estimated from the rate so far; None before the first result."""
        spent = time.monotonic() - self.started
        return (len(self.items) - self.done) * spent / self.done if self.running and self.done else None


class Desk:
    """The images of one process.

    Args:
        history: stores the results.
        client: classifies, and decodes files in a separate limited process.
    """

    def __init__(self, history: History, client: Client) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="he-infer-console-"))
        self._history, self._client = history, client
        self._lock = threading.RLock()
        self._items: dict[str, Item] = {}
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()
        self._held = False
        self.version = 0
        """Number of changes so far: a page compares it to find out whether to reload."""
        self.sent: bytes = b""
        """The ciphertexts of the job's first request, as the server received them."""

    def close(self) -> None:
        """Stop the job and remove all files."""
        self.cancel()
        if self._thread is not None:
            self._thread.join(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def items(self) -> list[Item]:
        """All images, in the order of their arrival."""
        with self._lock:
            return list(self._items.values())

    @property
    def job(self) -> Job | None:
        """The running job, or the last one."""
        with self._lock:
            return self._job

    def item(self, identifier: str) -> Item:
        """Find an image by its id.

        Raises:
            UsageError: the image is no longer on the page.
        """
        with self._lock:
            try:
                return self._items[identifier]
            except KeyError:
                raise UsageError("This image is no longer on the page.") from None

    def room(self) -> int:
        """Number of bytes that may still be added.

        Raises:
            UsageError: there are too many images already.
        """
        with self._lock:
            if len(self._items) >= MOST_FILES:
                raise UsageError(f"There are {MOST_FILES} images on the page already; clear some first.")
            return MOST_BYTES - sum(item.size for item in self._items.values())

    def new_file(self, name: str) -> Path:
        """Path for an uploaded file: a random name, with the original extension if it is short and alphanumeric."""
        ending = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
        return self._folder / (secrets.token_hex(16) + (ending[0] if ending else ""))

    def add(self, name: str, path: Path) -> Item:
        """Add an uploaded file, and check whether it is an image."""
        shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
        item = Item(path.stem, shown[-_LONGEST_NAME:] or "unnamed", path, path.stat().st_size)
        refusal = self._client.read(path).refusal
        if refusal is not None:
            item = replace(item, state=State.UNREADABLE, note=_one_line(refusal, item))
        with self._lock:
            self._items[item.id] = item
            self.version += 1
        return item

    def remove(self, identifiers: Sequence[str]) -> None:
        """Remove images, except those of the running job."""
        with self._lock:
            for identifier in identifiers:
                item = self._items.get(identifier)
                if item is not None and item.state is not State.WAITING:
                    del self._items[identifier]
                    item.path.unlink(missing_ok=True)
                    self.version += 1

    @contextmanager
    def idle(self, otherwise: str) -> Iterator[None]:
        """Keep runs from starting inside the block.

        Raises:
            UsageError: a run is under way; the message says what cannot be done.
        """
        with self._lock:
            if self._held or (self._job is not None and self._job.running):
                raise UsageError(f"A run is under way: {otherwise} until it has ended.")
            self._held = True
        try:
            yield
        finally:
            self._held = False

    def find(self, words: str) -> list[Item]:
        """The images whose name, state, class, study or note contain all words, case-insensitive, ordered by name.

        Numbers in names count as numbers: `slice 2` comes before `slice 10`.
        """
        wanted = words.casefold().split()
        return sorted((item for item in self.items if all(word in item.text for word in wanted)), key=_by_name)

    def note_report(self, identifier: str, where: str) -> None:
        """Note that an image's report was stored."""
        with self._lock:
            self._items[identifier] = replace(self.item(identifier), reported=where)
            self.version += 1

    def send(self) -> Job:
        """Start to classify all images that are ready or were not classified.

        Raises:
            UsageError: a job runs already, or there is nothing to classify.
        """
        with self._lock:
            if self._job is not None and self._job.running:
                raise UsageError("A run is under way already.")
            if self._held:
                raise UsageError("The keys are being rotated; wait until that has ended.")
            chosen = [item for item in self._items.values() if item.state in (State.READY, State.REFUSED)]
            if not chosen:
                raise UsageError("There is no image to classify: add some first.")
            for item in chosen:
                self._items[item.id] = replace(item, state=State.WAITING, note="", result=None)
            self._job = Job(tuple(item.id for item in chosen))
            self.version += 1
            self._cancelled.clear()
            self.sent = b""
            self._thread = threading.Thread(target=self._work, args=(chosen,), daemon=True, name="console job")
            self._thread.start()
            return self._job

    def cancel(self) -> None:
        """Stop the running job after the current request."""
        self._cancelled.set()

    def _work(self, chosen: list[Item]) -> None:
        by_path = {item.path: item for item in chosen}
        results: list[Result] = []
        problem = ""
        try:
            run = self._client.start(list(by_path), on_sent=self._note_sent)
            for result in run:
                results.append(result)
                self._finish(by_path[result.path], result)
                self._count(len(results), run.report)
                if self._cancelled.is_set():
                    problem = "It was stopped."
                    break
            run.check()
        except ServerError as error:
            problem = " ".join(str(error).split())
        except (HeInferError, ModelsError) as error:
            # An error that makes the answers untrustworthy also withdraws all earlier results of the run.
            problem = " ".join(str(error).split())
            results.clear()
        except Exception as error:  # last handler of the thread: the page must show that the run ended
            problem = f"The run ended because of an internal error ({type(error).__name__}); see the terminal."
            raise
        finally:
            self._end(chosen, results, problem)

    def _note_sent(self, parts: Sequence[bytes]) -> None:
        if not self.sent:
            self.sent = b"".join(parts)

    def _finish(self, item: Item, result: Result) -> None:
        state = State.DONE if result.classified else State.REFUSED
        note = _one_line(result.refusal, item) if result.refusal else ""
        with self._lock:
            self._items[item.id] = replace(item, state=state, note=note, result=result)
            self.version += 1

    def _end(self, chosen: list[Item], results: list[Result], problem: str) -> None:
        given = {result.path for result in results}
        with self._lock:
            for item in chosen:
                if item.path not in given:
                    self._items[item.id] = replace(item, state=State.READY, result=None, note="Not sent: " + problem)
            if self._job is not None:
                spent = time.monotonic() - self._job.started
                self._job = replace(self._job, running=False, problem=problem, seconds=spent, done=len(results))
            self.version += 1
        names = {item.path: item.name for item in chosen}
        for result in results:
            self._history.add(make_record(names[result.path], result))

    def _count(self, done: int, report: RunReport) -> None:
        with self._lock:
            if self._job is not None:
                self._job = replace(
                    self._job,
                    done=done,
                    requests=report.requests,
                    bytes_up=report.bytes_up,
                    bytes_down=report.bytes_down,
                )


def make_record(name: str, result: Result) -> Record:
    """Make the history's record of a result."""
    about = result.identifiers
    return Record(
        time=int(time.time()),
        name=name,
        study=about.study or "",
        series=about.series or "",
        image=about.sop_instance or "",
        accession=about.accession or "",
        outcome=result.label or "not classified",
        percent=None if result.probability is None else round(100 * result.probability, 1),
        reason=(result.refusal or "").replace(str(result.path), name),
        model=result.model,
        receipt=digest_receipt(result.receipt.signed()) if result.receipt else "",
    )


def _by_name(item: Item) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", item.name.casefold())
    return [(int(part[:18]), part) if place % 2 else (0, part) for place, part in enumerate(parts)]


def _one_line(error: object, item: Item) -> str:
    return " ".join(str(error).split()).replace(str(item.path), item.name)
