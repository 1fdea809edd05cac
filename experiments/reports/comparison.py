"""Changes between two sets of records."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.records.records import Record, keep_latest
from experiments.reports.tables import flatten

_TIMES = ("ms", "seconds", "s")
_NOT_FIGURES = frozenset({"picture"})


@dataclass(frozen=True)
class Change:
    """A value that differs."""

    run: str
    name: str
    before: Any
    after: Any

    @property
    def share(self) -> float | None:
        """The change as a share of the value before, for numbers."""
        if isinstance(self.before, bool) or isinstance(self.after, bool):
            return None
        if isinstance(self.before, int | float) and isinstance(self.after, int | float) and self.before:
            return self.after / self.before - 1
        return None


@dataclass(frozen=True)
class Comparison:
    """All changes, and the number of runs and figures compared."""

    runs: int
    compared: int
    figures: tuple[Change, ...]
    surroundings: tuple[Change, ...]
    """Versions and machine."""
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_records(
    before: Sequence[Record], after: Sequence[Record], *, tolerance: float, time_tolerance: float
) -> Comparison:
    """Compare the last record of each run; runs are told apart by kind, seed and parameters."""
    first, second = keep_latest(list(before)), keep_latest(list(after))
    both = [key for key in first if key in second]
    figures: list[Change] = []
    surroundings: dict[tuple[str, str, str], Change] = {}
    count = 0
    for key in both:
        one, other = first[key], second[key]
        left, right = dict(flatten(_measured(one))), dict(flatten(_measured(other)))
        for name in dict.fromkeys([*left, *right]):
            count += 1
            allowed = time_tolerance if _is_time(name) else tolerance
            if not _equal(left.get(name), right.get(name), allowed):
                figures.append(Change(one.command, name, left.get(name), right.get(name)))
        for member in ("versions", "machine"):
            here, there = getattr(one, member), getattr(other, member)
            for name in dict.fromkeys([*here, *there]):
                if here.get(name) != there.get(name):
                    change = Change("", f"{member}: {name}", here.get(name), there.get(name))
                    surroundings[name, str(change.before), str(change.after)] = change
    return Comparison(
        runs=len(both),
        compared=count,
        figures=tuple(figures),
        surroundings=tuple(surroundings.values()),
        only_before=tuple(record.command for key, record in first.items() if key not in second),
        only_after=tuple(record.command for key, record in second.items() if key not in first),
    )


def _measured(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.figures.items() if name not in _NOT_FIGURES}


def _is_time(name: str) -> bool:
    return any(word in _TIMES for part in name.split(".") for word in part.split("_"))


def _equal(left: Any, right: Any, tolerance: float) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (left, right))
    if numbers:
        return bool(abs(left - right) <= tolerance * max(abs(left), abs(right)))
    return bool(left == right)
