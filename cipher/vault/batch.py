"""The same work on many files, on all cores, that can be stopped at any time.

Knows nothing of ciphers: work is a picklable callable on one item. Processes rather than threads, because parsing DICOM
and the engine without numba hold the interpreter's lock.
"""

import importlib.util
import multiprocessing
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
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
    processes: int,
    moved: Callable[[int], None],
    done: Callable[[int, Any], None],
) -> bool:
    """Do `work` on every item.

    An interrupt (Ctrl-C) starts nothing new. In processes, what is under way is finished, and a second interrupt stops
    that too; in this process, what is under way is dropped. Either way a result is whole or not there.

    Args:
        work: the work on one item.
        items: the items to work on.
        processes: number of worker processes; up to 1 works in this process.
        moved: called with the bytes done since the last call.
        done: called once an item is finished, with its index and its result, or the CipherError that it raised.

    Returns:
        Whether all items were tried; false after an interrupt.

    Raises:
        StorageProblem: a worker process died.
    """
    if processes <= 1 or len(items) <= 1:
        return _run_here(work, items, moved, done)
    context = _context()
    counter = context.Value("Q", 0)
    pool = ProcessPoolExecutor(min(processes, len(items)), context, _begin, (work, counter))
    waiting = iter(enumerate(items))
    flying: dict[Future[Any], int] = {}
    seen = 0
    try:
        with _Interrupts(flying) as interrupts:
            while True:
                room = 0 if interrupts.seen else _AHEAD * processes - len(flying)
                flying.update((pool.submit(_run_one, item), index) for index, item in islice(waiting, room))
                if not flying:
                    break
                ready, _ = wait(flying, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                moved(counter.value - seen)
                seen = counter.value
                for future in ready:
                    index = flying.pop(future)
                    if not future.cancelled():
                        done(index, _outcome(future))
    except BrokenProcessPool:
        if interrupts.seen:
            return False
        raise StorageProblem(
            "A worker process was killed, perhaps because memory ran out. What it had finished is kept: run the same "
            "command again, with fewer --jobs, and it continues."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return not interrupts.seen


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
    """While active, the first SIGINT cancels what has not begun, the second ends the worker processes."""

    def __init__(self, flying: dict[Future[Any], int]) -> None:
        self._flying = flying
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
            for child in multiprocessing.active_children():
                child.terminate()


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
