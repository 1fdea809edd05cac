"""Work on many items in threads and processes: results, errors, a dead worker, interrupts."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

import pytest

from cipher.errors import Damaged, StorageProblem
from cipher.vault.batch import run_batch


@dataclass(frozen=True)
class Square:
    """Squares numbers; refuses 13, dies of -1, is interrupted at -2."""

    def __call__(self, number: int, moved: Callable[[int], None]) -> int:
        if number == 13:
            raise Damaged("thirteen")
        if number == -1:
            os._exit(9)
        if number == -2:
            raise KeyboardInterrupt
        moved(number)
        return number * number


def collect(numbers: list[int], jobs: int, *, threads: bool = False) -> tuple[bool, dict[int, object], int]:
    results: dict[int, object] = {}
    moved: list[int] = []
    finished = run_batch(
        Square(),
        numbers,
        jobs=jobs,
        threads=threads,
        moved=moved.append,
        done=lambda index, what: results.update({index: what}),
    )
    return finished, results, sum(moved)


@pytest.mark.parametrize(("jobs", "threads"), [(1, False), (2, False), (3, True)])
def test_every_item_gets_its_result_or_its_error(jobs: int, threads: bool) -> None:
    finished, results, moved = collect(list(range(40)), jobs, threads=threads)
    assert finished
    assert isinstance(results.pop(13), Damaged)
    assert results == {number: number * number for number in range(40) if number != 13}
    assert moved == sum(range(40)) - 13


def test_a_dead_worker_is_a_clear_error() -> None:
    with pytest.raises(StorageProblem, match="run the same command again"):
        collect([1, 2, -1, 3], 2)


def test_an_interrupt_stops_and_keeps_what_is_done() -> None:
    finished, results, _ = collect([1, 2, -2, 3], 1)
    assert not finished
    assert results == {0: 1, 1: 4}


@dataclass(frozen=True)
class Interrupted:
    """The first items interrupt their own process, and go on moving bytes until they are stopped."""

    interrupts: int
    begun: Event

    def __call__(self, number: int, moved: Callable[[int], None]) -> int:
        if number == 0:
            for _ in range(self.interrupts):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.3)  # or the second signal would be one with the first
            self.begun.set()
        self.begun.wait()
        for _ in range(100_000 if self.interrupts > 1 else 10):
            moved(1)
            time.sleep(0.001)
        return number


@pytest.mark.parametrize("interrupts", [1, 2])
def test_first_interrupt_finishes_threads_and_second_stops_them(interrupts: int) -> None:
    results: dict[int, object] = {}
    finished = run_batch(
        Interrupted(interrupts, Event()),
        list(range(100)),
        jobs=2,
        threads=True,
        moved=lambda _: None,
        done=lambda index, what: results.update({index: what}),
    )
    assert not finished
    assert len(results) <= 8
    assert (0 in results) is (interrupts == 1)
