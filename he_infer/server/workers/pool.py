"""The worker processes: started from a fork server, each with a pipe of its own, killed and replaced at will.

No library's executor is used, since a worker parses hostile bytes: nothing that it sends is unpickled (messages are
JSON and raw parts), and workers share no lock or pipe, so that SIGKILL at any moment harms one task alone.
"""

import math
import multiprocessing
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from he_infer.errors import FormatError
from he_infer.machine import interrupts_held, shorten_socket_folder
from he_infer.server.workers import pipe
from he_infer.server.workers.fair_queue import FairQueue, QueueClosed, QueueFull
from he_infer.server.workers.limits import WorkerConfig
from he_infer.wire.refusals import Code, Refused

Reply = tuple[dict[str, Any], list[bytes]]

_START_SECONDS = 120.0
_ATTEMPTS = 2
_MAX_REPLY = 1 << 30

# Loaded once by the fork server. Python silently ignores a wrong name here, so a test imports each.
PRELOAD = [
    "he_infer.server.workers.clean_environment",
    "he_infer.server.workers.native_code",
    "he_infer.server.workers.worker",
    "he_infer.server.workers.trial",
]

# Signals that a process's own code causes; SIGKILL comes from outside (an operator, the kernel's OOM).
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS})

Entry = Callable[["Connection[bytes, bytes]", WorkerConfig], None]


@dataclass
class _Job:
    tenant: str
    header: dict[str, Any]
    parts: Sequence[bytes]
    supply: Callable[[], Sequence[bytes]] | None
    future: "Future[Reply]" = field(default_factory=Future)
    attempts: int = 0


class _Died(Exception):
    """The worker ended without an answer; `crashed` where its own code brought it down."""

    def __init__(self, *, crashed: bool = False) -> None:
        self.crashed = crashed


class Crashed(Exception):
    """A task's bytes brought the process that worked on them down; the task is not tried again."""


class _Overdue(Exception):
    """The worker was killed at its limit of time."""


class _Slot:
    """A slot for one worker process, and the process in it at the moment."""

    def __init__(self, config: WorkerConfig, entry: Entry) -> None:
        self._config = config
        self._entry = entry
        self._context = multiprocessing.get_context("forkserver")
        self._process: BaseProcess | None = None
        self._ended = select.poll()  # has an event once the process has ended
        self._connection: Connection[bytes, bytes] | None = None
        self._deadline: float | None = None
        self._overdue = False
        self._lock = threading.Lock()
        self.hello: dict[str, Any] = {}

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def ensure(self) -> None:
        """Start a process where there is none alive.

        Raises:
            _Died, _Overdue: it ended before it was ready.
            Refused: it says why it cannot work (a bundle that it cannot read, say).
        """
        if self._process is not None and self._connection is not None and not self._ended.poll(0):
            return
        self.stop()
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=self._entry, args=(theirs, self._config), daemon=True)
        try:
            with interrupts_held():
                process.start()
        except (OSError, EOFError) as error:  # the fork server is gone; the next attempt starts another
            ours.close()
            raise _Died from error
        finally:
            theirs.close()
        with self._lock:
            self._process, self._connection = process, ours
        self._ended = select.poll()
        self._ended.register(process.sentinel, select.POLLIN)
        hello, _ = self.exchange(None, (), _START_SECONDS)
        if "error" in hello:
            self.stop()
            raise Refused(Code.INTERNAL, str(hello["message"]))
        self.hello = hello

    def check_deadline(self, now: float) -> None:
        """Kill the process where it is past its deadline; called from the pool's watchdog."""
        with self._lock:
            if self._deadline is not None and now > self._deadline and self._process is not None:
                self._overdue = True
                self._process.kill()

    def stop(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            process, self._process = self._process, None
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if process is not None:
            _end(process)
            process.close()

    def exchange(self, header: Mapping[str, Any] | None, parts: Sequence[bytes], seconds: float) -> Reply:
        """Send one message, where there is one, and wait for an answer, at most `seconds`."""
        connection, process = self._connection, self._process
        if connection is None or process is None:
            raise _Died
        with self._lock:
            self._overdue = False
            self._deadline = time.monotonic() + seconds
        try:
            if header is not None:
                pipe.send(connection, header, parts)
            return pipe.receive(connection, _MAX_REPLY)
        except (EOFError, OSError, FormatError) as error:
            _end(process)
            exitcode = process.exitcode
            # Forgotten at once: its sentinel may not show the end yet, although the exit code has come through it.
            self.stop()
            if self._overdue or exitcode == -signal.SIGXCPU:
                raise _Overdue from error
            raise _Died(crashed=-(exitcode or 0) in _CRASHES) from error
        finally:
            with self._lock:
                self._deadline = None


class WorkerPool:
    """Runs tasks in worker processes: a bounded fair queue in front, one thread and one process a slot behind.

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
        entry: Entry | None = None,
        throw_away: bool = False,
    ) -> None:
        self._slots = [_Slot(config, entry or run_worker) for _ in range(workers)]
        self._throw_away = throw_away
        self._queue: FairQueue[_Job] = FairQueue(queue, workers)
        self._wall_seconds = wall_seconds
        self._queue_seconds = queue_seconds
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
        except (_Died, _Overdue) as error:
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

    def check_room(self, tenant: str) -> None:
        """Refuse early, before a message is checked and counted, what `submit` would refuse anyway.

        Raises:
            Refused: `busy`.
        """
        if not self._queue.has_room(tenant) or self._waits_too_long(tenant):
            raise self._busy(tenant)

    def submit(
        self,
        tenant: str,
        header: dict[str, Any],
        parts: Sequence[bytes],
        supply: Callable[[], Sequence[bytes]] | None = None,
    ) -> "Future[Reply]":
        """Queue a task.

        Args:
            tenant: client that the task counts for.
            header: what to do; JSON.
            parts: bytes that go along.
            supply: called for further parts when the worker answers that it needs them (evaluation keys that it does
                not have in its cache); they go along in a second message.

        Returns:
            A future of the worker's answer. It fails with `Refused`: `busy`, `worker_died`, `worker_limit`, or
            what the worker itself refuses; and with `Crashed` where the task brought its process down.

        Raises:
            Refused: `busy`, `draining`.
        """
        job = _Job(tenant, header, parts, supply)
        if self._waits_too_long(tenant):
            raise self._busy(tenant)
        try:
            dropped = self._queue.put(tenant, job)
        except QueueFull as error:
            raise self._busy(tenant) from error
        except QueueClosed as error:
            raise Refused(Code.DRAINING, "The server is shutting down; try again later.", retry_after=5.0) from error
        if dropped is not None:
            _fail(dropped, self._busy(dropped.tenant))
        return job.future

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

    def _wait(self, tenant: str) -> float:
        """Seconds until a new task of this tenant would begin."""
        return self._queue.ahead_of(tenant).seconds / len(self._slots)

    def _waits_too_long(self, tenant: str) -> bool:
        # One waiting task for each worker is always accepted, even where a single task takes longer than the bound.
        ahead = self._queue.ahead_of(tenant)
        return ahead.jobs >= len(self._slots) and ahead.seconds / len(self._slots) > self._queue_seconds

    def _busy(self, tenant: str) -> Refused:
        seconds = max(1, math.ceil(self._wait(tenant)))
        return Refused(Code.BUSY, f"The queue is full; try again in {seconds} s.", retry_after=float(seconds))

    @property
    def ready(self) -> bool:
        """True once a worker process has reported that it is ready."""
        return any(slot.hello and slot.pid is not None for slot in self._slots)

    def _serve(self, slot: _Slot) -> None:
        if not self._throw_away:
            try:
                slot.ensure()
            except (_Died, _Overdue, Refused):
                self.deaths += 1  # the first task tries again
        while (job := self._queue.get()) is not None:
            with self._count:
                self._running += 1
            started = time.monotonic()
            try:
                self._attempt(slot, job)
            except Exception as error:  # a defect must cost its own request alone, not the slot's thread
                _fail(job, error)
            finally:
                if self._throw_away:
                    slot.stop()
                self._queue.charge(job.tenant, time.monotonic() - started)
                with self._count:
                    self._running -= 1

    def _attempt(self, slot: _Slot, job: _Job) -> None:
        job.attempts += 1
        try:
            slot.ensure()
            reply = self._call(slot, job)
        except _Overdue:
            self.overdue += 1
            _fail(job, Refused(Code.WORKER_LIMIT, "The evaluation took longer than the server allows."))
        except _Died as died:
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

    def _call(self, slot: _Slot, job: _Job) -> Reply:
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


def run_worker(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Run a worker, in its own process: the server's process loads neither numpy nor SEAL."""
    from he_infer.server.workers import worker

    worker.main(connection, config)


def run_trial(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Run a trial of evaluation keys, in its own process."""
    from he_infer.server.workers import trial

    trial.main(connection, config)


def _end(process: BaseProcess) -> None:
    """Kill and reap. Asking first whether it lives keeps a signal from reaching a later process of the same id."""
    if process.is_alive():
        process.kill()
    process.join()
