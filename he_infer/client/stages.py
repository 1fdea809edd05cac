"""Parallel stages: each works ahead of the next by a limited number of items and keeps their order."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(items: Iterable[T], do: Callable[[T], R], workers: Executor, room: int) -> Iterator[R]:
    """Apply `do` to each item in worker threads, at most `room` items ahead. Gives the results in the items' order."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(workers.submit(do, item))
            if len(waiting) >= room:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def run_ahead(items: Iterable[T], room: int) -> Iterator[T]:
    """Read an iterator in a separate thread, at most `room` items ahead.

    An error of the iterator is raised here after the items before it. Closing this iterator ends the thread.
    """
    lane: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(room)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                lane.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = lane.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # an entry without an error holds an item
    finally:
        stopped.set()
        thread.join()
