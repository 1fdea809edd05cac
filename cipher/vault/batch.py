"""The same work on many files, on all cores, that can be stopped at any time.

Knows nothing of ciphers: work is a picklable callable on one item. Threads begin at once and share one process; they
are for work that leaves the interpreter's lock while it computes and writes. Processes are for other work, such as the
engine without numba.
"""

import importlib.util
import multiprocessing
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import forkserver, resource_tracker
from typing import Any, Protocol, TypeVar

from cipher.errors import CipherError, StorageProblem
from cipher.files.sockets import shorten_socket_folder

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)

_POLL_SECONDS = 0.2
_AHEAD = 4
"""Items handed out for each process: enough to keep it busy, few enough to watch."""

# Loaded once by the fork server. A wrong name here is ignored without a word, so a test imports each.
PRELOAD = ["cipher.vault.protecting", "cipher.vault.restoring", "cipher.vault.checking"]
COMPILED = "cipher.algorithm.engine.compiled"


class Work(Protocol[Item, Result]):
    """Work on one item; must be picklable, and leave a whole result or none when it raises."""

    def __call__(self, item: Item, moved: Callable[[int], None], /) -> Result:
        """Do the work; call `moved` with the bytes done since the last call."""
        ...


def run_batch(
    work: Work[Any, Any],
    items: Sequence[Any],
    *,
    jobs: int,
    threads: bool = False,
    moved: Callable[[int], None],
    done: Callable[[int, Any], None],
) -> bool:
    """Do `work` on every item.

    An interrupt (Ctrl-C) starts nothing new. With several jobs, what is under way is finished, and a second interrupt
    stops that too; with one, what is under way is dropped. Either way a result is whole or not there.

    Args:
        work: the work on one item.
        items: the items to work on.
        jobs: number of items worked on at a time; up to 1 works in the calling thread.
        threads: whether jobs are threads of this process, or worker processes.
        moved: called with the bytes done since the last call.
        done: called once an item is finished, with its index and its result, or the CipherError that it raised.

    Returns:
        Whether all items were tried; false after an interrupt.

    Raises:
        StorageProblem: a worker process died.
    """
    if jobs <= 1 or len(items) <= 1:
        return _run_here(work, items, moved, done)
    jobs = min(jobs, len(items))
    workers: _Threads | _Processes = _Threads(work, jobs) if threads else _Processes(work, jobs)
    waiting = iter(enumerate(items))
    flying: dict[Future[Any], int] = {}
    seen = 0
    try:
        with _Interrupts(flying, workers.stop) as interrupts:
            while True:
                room = 0 if interrupts.seen else _AHEAD * jobs - len(flying)
                flying.update((workers.submit(item), index) for index, item in islice(waiting, room))
                if not flying:
                    break
                ready, _ = wait(flying, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                now = workers.moved()
                moved(now - seen)
                seen = now
                for future in ready:
                    index = flying.pop(future)
                    if not future.cancelled() and not isinstance(future.exception(), _Stopped):
                        done(index, _outcome(future))
    except BrokenProcessPool:
        if interrupts.seen:
            return False
        raise StorageProblem(
            "A worker process was killed, perhaps because memory ran out. What it had finished is kept: run the same "
            "command again, with fewer --jobs, and it continues."
        ) from None
    finally:
        workers.shutdown()
    return not interrupts.seen


class _Stopped(BaseException):
    """Ends the work on an item after a second interrupt."""


class _Threads:
    """Jobs as threads of this process."""

    def __init__(self, work: Work[Any, Any], jobs: int) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(jobs, "batch")
        self._lock = threading.Lock()
        self._bytes = 0
        self._stopping = False

    def submit(self, item: Any) -> Future[Any]:
        return self._pool.submit(self._work, item, self._moved)

    def _moved(self, count: int) -> None:
        if self._stopping:
            raise _Stopped
        with self._lock:
            self._bytes += count

    def moved(self) -> int:
        return self._bytes

    def stop(self) -> None:
        """End what is under way at the next bytes that it moves; unfinished files are removed."""
        self._stopping = True

    def shutdown(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class _Processes:
    """Jobs as worker processes."""

    def __init__(self, work: Work[Any, Any], jobs: int) -> None:
        context = _context()
        self._counter = context.Value("Q", 0)
        self._pool = ProcessPoolExecutor(jobs, context, _begin, (work, self._counter))

    def submit(self, item: Any) -> Future[Any]:
        return self._pool.submit(_run_one, item)

    def moved(self) -> int:
        return int(self._counter.value)

    def stop(self) -> None:
        for child in multiprocessing.active_children():
            child.terminate()

    def shutdown(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _context() -> Any:
    """New processes from a server that has loaded the modules, or from nothing where there is no such server.

    A plain fork would copy the locks of this process's threads.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    shorten_socket_folder()
    context = multiprocessing.get_context("forkserver")
    engine = [COMPILED] if importlib.util.find_spec("numba") is not None else []
    context.set_forkserver_preload([*PRELOAD, *engine])
    _start_fork_server()
    return context


def _start_fork_server() -> None:
    """Start it so that neither it nor its processes hear Ctrl-C: while loading, they would print a traceback."""
    resource_tracker.ensure_running()  # before the block: where multiprocessing starts it, it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Interrupts:
    """While active, the first SIGINT cancels what has not begun, the second stops what is under way."""

    def __init__(self, flying: dict[Future[Any], int], stop: Callable[[], None]) -> None:
        self._flying = flying
        self._stop = stop
        self._before: Any = None
        self.seen = 0

    def __enter__(self) -> "_Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, *_: object) -> None:
        self.seen += 1
        for future in list(self._flying):
            future.cancel()
        if self.seen > 1:
            self._stop()


def _run_here(
    work: Work[Any, Any], items: Sequence[Any], moved: Callable[[int], None], done: Callable[[int, Any], None]
) -> bool:
    try:
        for index, item in enumerate(items):
            try:
                result: Any = work(item, moved)
            except CipherError as error:
                result = error
            done(index, result)
    except KeyboardInterrupt:
        return False
    return True


def _outcome(future: Future[Any]) -> Any:
    try:
        return future.result()
    except CipherError as error:
        return error


_state: list[Any] = []
"""In a worker process: the work and the counter of bytes. Set once, when the process begins."""


def _begin(work: Work[Any, Any], counter: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to every process; the parent decides
    _state[:] = [work, counter]


def _run_one(item: Any) -> Any:
    work, counter = _state

    def moved(count: int) -> None:
        with counter.get_lock():
            counter.value += count

    return work(item, moved)
