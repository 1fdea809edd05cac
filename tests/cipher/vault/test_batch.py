"""Work on many items in processes: results, errors, a dead worker, an interrupt."""

import os
from collections.abc import Callable
from dataclasses import dataclass

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


def collect(numbers: list[int], processes: int) -> tuple[bool, dict[int, object], int]:
    results: dict[int, object] = {}
    moved: list[int] = []
    finished = run_batch(
        Square(),
        numbers,
        processes=processes,
        moved=moved.append,
        done=lambda index, what: results.update({index: what}),
    )
    return finished, results, sum(moved)


@pytest.mark.parametrize("processes", [1, 2])
def test_every_item_gets_its_result_or_its_error(processes: int) -> None:
    finished, results, moved = collect(list(range(40)), processes)
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
