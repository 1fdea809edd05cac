"""The pool of worker processes: a task goes to a free one at once, or waits its turn in the fair queue.

No library's executor is used, since a worker parses hostile bytes: see `slot`.
"""

import math
import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from he_infer.machine import shorten_socket_folder
from he_infer.server.workers.fair_queue import FairQueue, QueueClosed, QueueFull
from he_infer.server.workers.limits import WorkerConfig
from he_infer.server.workers.slot import Died, Entry, Overdue, Reply, Slot
from he_infer.wire.refusals import Code, Refused

_ATTEMPTS = 2

# Loaded once by the fork server. Python silently ignores a wrong name here, so a test imports each.
PRELOAD = [
    "he_infer.server.workers.clean_environment",
    "he_infer.server.workers.native_code",
    "he_infer.server.workers.worker",
    "he_infer.server.workers.trial",
]


@dataclass
class _Job:
    tenant: str
    header: dict[str, Any]
    parts: Sequence[bytes]
    supply: Callable[[], Sequence[bytes]] | None
    future: "Future[Reply]" = field(default_factory=Future)
    attempts: int = 0


class Crashed(Exception):
    """A task's bytes brought the process that worked on them down; the task is not tried again."""


def run_worker(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Run a worker, in its own process: the server's process loads neither numpy nor SEAL."""
    from he_infer.server.workers import worker

    worker.main(connection, config)


def run_trial(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Run a trial of evaluation keys, in its own process."""
    from he_infer.server.workers import trial

    trial.main(connection, config)


class WorkerPool:
    """Runs tasks in worker processes, one a slot, with a bounded fair queue in front.

    A task that finds nothing waiting and a slot free is carried out by the thread that brings it. The others wait in
    the queue, from which one thread a slot takes them.

    Args:
        config: settings that each worker starts with.
        entry: function that a worker process runs.
        throw_away: give each task a fresh process, which ends with it.
        workers: how many processes.
        queue: how many tasks may wait.
        wall_seconds: longest time for one task.
        queue_seconds: a task that would wait longer than this, by the measured time of a task, is refused at once.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        workers: int,
        queue: int,
        wall_seconds: float,
        queue_seconds: float = math.inf,
        entry: Entry = run_worker,
        throw_away: bool = False,
    ) -> None:
        self._slots = [Slot(config, entry) for _ in range(workers)]
        self._throw_away = throw_away
        self._queue: FairQueue[_Job] = FairQueue(queue, workers)
        self._wall_seconds = wall_seconds
        self._queue_seconds = queue_seconds
        self._free: deque[Slot] = deque()
        """Slots without a task: as many as the queue counts free. The last one used is the next one taken."""
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._running = 0
        self._count = threading.Lock()
        self.deaths = 0
        """Workers that ended by themselves or by a signal from elsewhere."""
        self.overdue = 0
        """Workers killed at a limit of time."""

    def start(self) -> dict[str, Any]:
        """Start the processes; returns the first worker's description of what it serves.

        Raises:
            Refused: the workers cannot work; the message says why.
        """
        shorten_socket_folder()
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
        first = self._slots[0]
        try:
            if not self._throw_away:
                first.ensure()
        except (Died, Overdue) as error:
            raise Refused(Code.INTERNAL, "The first worker process ended before it was ready.") from error
        for slot in self._slots:
            thread = threading.Thread(target=self._serve, args=(slot,), name="he-infer-slot", daemon=True)
            thread.start()
            self._threads.append(thread)
        watchdog = threading.Thread(target=self._watch, name="he-infer-watchdog", daemon=True)
        watchdog.start()
        return first.hello

    @property
    def waiting(self) -> int:
        """Tasks in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Tasks in workers."""
        return self._running

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers there are."""
        return [slot.pid for slot in self._slots if slot.pid is not None]

    def check_room(self, tenant: str, under_way: int = 0) -> None:
        """Refuse early, before a message is checked and counted, what `run` would refuse anyway.

        Args:
            tenant: client that the task counts for.
            under_way: tasks of this client that were let through this check and are not ended, where that is known.

        Raises:
            Refused: `busy`.
        """
        if not self._queue and under_way < len(self._slots):
            return  # nothing waits, nor would this task
        if not self._queue.has_room(tenant, under_way) or self._waits_too_long(tenant, under_way):
            raise self._busy(tenant)

    def run(
        self,
        tenant: str,
        header: dict[str, Any],
        parts: Sequence[bytes],
        supply: Callable[[], Sequence[bytes]] | None = None,
    ) -> Reply:
        """Carry a task out in this thread or, where it has to wait for others, in the thread of a slot.

        Args:
            tenant: client that the task counts for; the worker is told.
            header: what to do; JSON.
            parts: bytes that go along.
            supply: called for further parts when the worker answers that it needs them (evaluation keys that it does
                not have in its cache); they go along in a second message.

        Returns:
            The worker's answer.

        Raises:
            Refused: `busy`, `draining`, `worker_died`, `worker_limit`, or what the worker itself refuses.
            Crashed: the task brought its process down.
        """
        job = _Job(tenant, {**header, "client": tenant}, parts, supply)
        if self._queue.start(tenant):
            self._carry_out(job, at_once=True)
        else:
            self._put(job)
        return job.future.result()

    def _put(self, job: _Job) -> None:
        if self._waits_too_long(job.tenant):
            raise self._busy(job.tenant)
        try:
            dropped = self._queue.put(job.tenant, job)
        except QueueFull as error:
            raise self._busy(job.tenant) from error
        except QueueClosed as error:
            raise Refused(Code.DRAINING, "The server is shutting down; try again later.", retry_after=5.0) from error
        if dropped is not None:
            _fail(dropped, self._busy(dropped.tenant))

    def drain(self, seconds: float) -> None:
        """Take no more tasks, finish the accepted ones within `seconds`, then end all processes."""
        self._queue.close()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._stopping.set()
        for job in self._queue.clear():
            _fail(job, Refused(Code.DRAINING, "The server shut down before it came to this request."))
        for slot in self._slots:
            slot.stop()

    def _waits_too_long(self, tenant: str, under_way: int = 0) -> bool:
        # One waiting task for each worker is always accepted, even where a single task takes longer than the bound.
        ahead = self._queue.ahead_of(tenant, under_way)
        return ahead.jobs >= len(self._slots) and ahead.seconds > self._queue_seconds * len(self._slots)

    def _busy(self, tenant: str) -> Refused:
        seconds = max(1, math.ceil(self._queue.ahead_of(tenant).seconds / len(self._slots)))
        return Refused(Code.BUSY, f"The queue is full; try again in {seconds} s.", retry_after=float(seconds))

    @property
    def ready(self) -> bool:
        """True once a worker process has reported that it is ready."""
        return any(slot.hello and slot.pid is not None for slot in self._slots)

    def _serve(self, slot: Slot) -> None:
        if not self._throw_away:
            try:
                slot.ensure()
            except (Died, Overdue, Refused):
                self.deaths += 1  # the first task tries again
        self._free.append(slot)
        while (job := self._queue.get()) is not None:
            self._carry_out(job, at_once=False)

    def _carry_out(self, job: _Job, *, at_once: bool) -> None:
        """Try a task in a free slot, which the queue has given to this thread."""
        slot = self._free.pop()
        with self._count:
            self._running += 1
        started = time.monotonic()
        try:
            self._attempt(slot, job)
        except Exception as error:  # a defect must cost its own request alone, not the slot
            _fail(job, error)
        finally:
            if self._throw_away:
                slot.stop()
            self._free.append(slot)
            with self._count:
                self._running -= 1
            self._queue.charge(job.tenant, time.monotonic() - started, at_once=at_once)

    def _attempt(self, slot: Slot, job: _Job) -> None:
        job.attempts += 1
        try:
            slot.ensure()
            reply = self._call(slot, job)
        except Overdue:
            self.overdue += 1
            _fail(job, Refused(Code.WORKER_LIMIT, "The evaluation took longer than the server allows."))
        except Died as died:
            self.deaths += 1
            if died.crashed:
                _fail(job, Crashed())
            elif self._stopping.is_set():
                _fail(job, Refused(Code.DRAINING, "The server shut down during this request."))
            elif job.attempts < _ATTEMPTS:
                self._queue.put_back(job.tenant, job)
            else:
                _fail(job, Refused(Code.WORKER_DIED, "The process that evaluated this died, twice; try again later."))
        except Refused as refused:
            _fail(job, refused)
        else:
            job.future.set_result(reply)

    def _call(self, slot: Slot, job: _Job) -> Reply:
        header, parts = slot.exchange(job.header, job.parts, self._wall_seconds)
        if header.get("needs") and job.supply is not None:
            try:
                supplied = job.supply()
            except Exception:  # and raised again
                # The worker waits for parts that will not come: tell it, so that the pipe stays in step.
                slot.exchange({"abort": True}, (), self._wall_seconds)
                raise
            header, parts = slot.exchange({"supplied": len(supplied)}, supplied, self._wall_seconds)
        if "error" in header:
            raise Refused(Code(header["error"]), str(header["message"]))
        return header, parts

    def _watch(self) -> None:
        while not self._stopping.wait(0.25):
            now = time.monotonic()
            for slot in self._slots:
                slot.check_deadline(now)


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
