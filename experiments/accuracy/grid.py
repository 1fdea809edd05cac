"""A grid file: data sets, extractors, heads, parameters and seeds of many runs, as one TOML file.

    [[grid]]
    data = ["pneumoniamnist", "breastmnist"]   # names, .npz files or folders, as `--data` takes them
    heads = ["deployed", "logistic", "relu"]   # keys of `CANDIDATES`
    seeds = [0, 1, 2, 3, 4]
    widths = [512]                             # features of the extractor; the rest is optional
    extractors = ["cnn"]                       # keys of `EXTRACTORS`
    policies = ["hidden"]                      # "hidden" or "open"
    precisions = [0.001]                       # largest error of a score that parameters are chosen for
    batches = [1]                              # images a request
    epochs = 13                                # passes over the training images; else as the data set suits
    limit = 100                                # only the first test images; else all, and records and tables say which

Each table is one product; several may follow each other. Runs that two tables share are run once.
"""

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import GridError
from experiments.records.records import compute_run_key

KIND = "accuracy"
EXTRACTORS: dict[str, tuple[int, ...]] = {"cnn": (24, 48, 96), "small": (16, 32, 64)}
"""Name -> channels of the network's stages."""

CANDIDATES = {
    "deployed": "MLP x², trained together with the extractor",
    "logistic": "logistic regression",
    "svm": "linear SVM",
    "lda": "linear discriminant analysis",
    "quadratic": "SVM with a quadratic kernel",
    "mlp": "MLP x²",
    "cubic": "MLP degree 3",
    "relu": "MLP with ReLU, in clear only",
}
"""Name -> description."""

_DEFAULTS: dict[str, list[Any]] = {
    "widths": [512],
    "extractors": ["cnn"],
    "policies": ["hidden"],
    "precisions": [1e-3],
    "batches": [1],
}
_NEEDED = ("data", "heads", "seeds")
_SINGLE = ("epochs", "limit")


@dataclass(frozen=True)
class GridModel:
    """An extractor that is trained once for all heads."""

    data: str
    extractor: str
    width: int
    epochs: int | None
    seed: int


@dataclass(frozen=True)
class GridRun:
    """A head of a model under a choice of parameters."""

    model: GridModel
    head: str
    policy: str
    precision: float
    batch: int
    limit: int | None

    @property
    def parameters(self) -> dict[str, Any]:
        """The record's parameters: everything that decides the run, except the seed."""
        return {
            "data": self.model.data,
            "extractor": self.model.extractor,
            "width": self.model.width,
            "epochs": self.model.epochs,
            "head": self.head,
            "policy": self.policy,
            "precision": self.precision,
            "batch": self.batch,
            "limit": self.limit,
        }

    @property
    def key(self) -> str:
        """The key of the record that this run leaves."""
        return compute_run_key(KIND, self.model.seed, self.parameters)

    def __str__(self) -> str:
        model = self.model
        return f"{model.data}, {model.extractor} {model.width}, {self.head}, seed {model.seed}"


def load_grid(path: Path) -> list[GridRun]:
    """The runs of a grid file, in order.

    Raises:
        GridError: no such file, not TOML, or it asks for what cannot be run.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GridError(f"There is no grid file {path}. Expected a TOML file with tables [[grid]].") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise GridError(f"{path} cannot be read as TOML: {error}.") from error
    tables = values.get("grid")
    if set(values) != {"grid"} or not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise GridError(f"{path}: expected tables [[grid]] and nothing beside them.")
    return list(
        dict.fromkeys(
            run for number, table in enumerate(tables, 1) for run in _runs(f"{path}, [[grid]] {number}", table)
        )
    )


def _runs(where: str, table: Mapping[str, Any]) -> Iterator[GridRun]:
    known = (*_NEEDED, *_DEFAULTS, *_SINGLE)
    unknown, missing = sorted(set(table) - set(known)), [name for name in _NEEDED if name not in table]
    if unknown or missing:
        what = f"'{unknown[0]}' is unknown" if unknown else f"'{missing[0]}' is missing"
        raise GridError(f"{where}: {what}. Known are {', '.join(known)}.")
    lists = {name: _list(where, name, table.get(name, _DEFAULTS.get(name))) for name in (*_NEEDED, *_DEFAULTS)}
    _check(where, "heads", lists["heads"], CANDIDATES)
    _check(where, "extractors", lists["extractors"], EXTRACTORS)
    _check(where, "policies", lists["policies"], ("hidden", "open"))
    for name, wanted, test in (
        ("data", "names or paths", lambda v: isinstance(v, str) and v),
        ("seeds", "whole numbers from 0 up", lambda v: _whole(v) and v >= 0),
        ("widths", "whole numbers from 16 to 4096", lambda v: _whole(v) and 16 <= v <= 4096),
        ("batches", "whole numbers from 1 up", lambda v: _whole(v) and v >= 1),
        ("precisions", "numbers between 0 and 1", lambda v: isinstance(v, float) and 0 < v < 1),
    ):
        if not all(test(value) for value in lists[name]):
            raise GridError(f"{where}: '{name}' holds {lists[name]}. Expected {wanted}.")
    for name, least in (("epochs", 1), ("limit", 2)):
        if name in table and not (_whole(table[name]) and table[name] >= least):
            raise GridError(f"{where}: '{name}' is {table[name]!r}. Expected a whole number from {least} up.")
    for data, extractor, width, seed in itertools.product(
        *(lists[n] for n in ("data", "extractors", "widths", "seeds"))
    ):
        model = GridModel(data, extractor, width, table.get("epochs"), seed)
        asked = itertools.product(*(lists[name] for name in ("heads", "policies", "precisions", "batches")))
        for head, policy, precision, batch in asked:
            yield GridRun(model, head, policy, precision, batch, table.get("limit"))


def group_by_model(runs: Sequence[GridRun]) -> dict[GridModel, list[GridRun]]:
    """The runs that share one trained extractor."""
    grouped: dict[GridModel, list[GridRun]] = {}
    for run in runs:
        grouped.setdefault(run.model, []).append(run)
    return grouped


def _list(where: str, name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise GridError(f"{where}: '{name}' must be a list with at least one entry.")
    return value


def _check(where: str, name: str, values: list[Any], known: Any) -> None:
    for value in values:
        if value not in known:
            raise GridError(f"{where}: '{name}' holds {value!r}. Known are {', '.join(known)}.")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
