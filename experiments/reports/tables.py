"""Tables of records: one section for each kind of experiment, one row for each run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.present.markdown_tables import Table, format_spread, format_value
from experiments.records.records import Record, keep_latest

_MOST_LIST = 6
_MOST_FIGURES = 40
_LEFT_OUT = frozenset({"digest", "picture", "training", "classes"})
"""Members on identity and origin: in the record, not in a table."""

TITLES = {
    "accuracy": "Accuracy: in clear against encrypted",
    "crossval": "Recipes by cross-validation",
    "price": "The price of encryption",
    "speed": "Speed of the encrypted head",
    "tail": "Split points of the network",
    "inversion": "Images rebuilt from clear features",
    "membership": "Membership inference",
    "extraction": "Model extraction",
    "chosen-images": "Four chosen images against the image cipher",
    "paper-6a": "The paper's Fig. 6a: image encryption",
    "paper-6b": "The paper's Fig. 6b: denoising an encrypted image",
    "paper-6c": "The paper's Fig. 6c: tumour types",
    "paper-6d": "The paper's Fig. 6d: compressed, encrypted, stored, restored, classified",
    "paper-6e": "The paper's Fig. 6e: the encrypted service",
    "paper-6f": "The paper's Fig. 6f: image keys",
    "paper-fig3": "The paper's Fig. 3: histograms",
    "paper-table2": "The paper's Table 2: correlation",
    "paper-fig4": "The paper's Fig. 4: correlation",
}
"""The kinds in the order of a report; others follow by name."""


@dataclass(frozen=True)
class Section:
    """All runs of one kind."""

    kind: str
    title: str
    records: tuple[Record, ...]
    """The last record of each run, in the order of the files."""


def group_sections(records: Sequence[Record]) -> list[Section]:
    """Records by kind; of runs that were repeated, the last one."""
    kept = list(keep_latest(list(records)).values())
    order = list(TITLES)
    kinds = sorted({one.kind for one in kept}, key=lambda kind: (order.index(kind) if kind in order else 99, kind))
    return [Section(kind, TITLES.get(kind, kind), tuple(one for one in kept if one.kind == kind)) for kind in kinds]


def make_table(section: Section) -> Table:
    """The table of a section: one that suits the kind, or parameters and figures line by line."""
    special = {
        "accuracy": _accuracy,
        "crossval": _crossval,
        "inversion": _inversion,
        "membership": _membership,
        "price": _price,
    }.get(section.kind)
    found = special(section.records) if special is not None else _rows(section.records)
    return found or _tabulate_runs(section.records)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested figures as (dotted name, scalar); long lists are left out."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}.")
        elif isinstance(value, list):
            if value and all(isinstance(one, Mapping) for one in value):
                for index, one in enumerate(value):
                    yield from flatten(one, f"{path}.{index}.")
            elif len(value) <= _MOST_LIST:
                for index, one in enumerate(value):
                    yield from flatten({str(index): one}, f"{path}.")
        else:
            yield path, value


def _tabulate_runs(records: Sequence[Record]) -> Table:
    """Make a table of a column for each run, with names down the side."""
    names: dict[str, None] = {}
    columns = []
    for record in records:
        values = {
            name: value
            for name, value in (*flatten(record.parameters), *flatten(record.figures))
            if not _LEFT_OUT & set(name.split("."))
        }
        columns.append(values)
        names |= dict.fromkeys(values)
    shown = list(names)[:_MOST_FIGURES]
    heads = ("", *(f"run {number}" for number in range(1, len(records) + 1)))
    if len(records) == 1:
        heads = ("", "")
    rows = [(name.replace("_", " "), *(format_value(column.get(name)) for column in columns)) for name in shown]
    if len(names) > len(shown):
        rows.append((f"and {len(names) - len(shown)} more in the record", *("" for _ in records)))
    return Table(heads, tuple(rows))


def _rows(records: Sequence[Record]) -> Table | None:
    """A line for each of the mappings that `figures.rows` lists, where every record has such a list."""
    lists = [record.figures.get("rows") for record in records]
    if not all(isinstance(one, list) and one and all(isinstance(row, Mapping) for row in one) for one in lists):
        return None
    names: dict[str, None] = {}
    lines = []
    for record in records:
        for row in record.figures["rows"]:
            values = {"set": record.parameters.get("dataset", ""), **dict(flatten(row))}
            names |= dict.fromkeys(values)
            lines.append(values)
    rows = tuple(tuple(format_value(line.get(name)) for name in names) for line in lines)
    return Table(tuple(name.replace("_", " ") for name in names), rows)


def group_by_configuration(records: Sequence[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Runs of `accuracy` that differ in nothing but the seed."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(_configuration(record.parameters), []).append(record)
    return groups


_USUAL = {"extractor": "cnn", "policy": "hidden", "precision": 1e-3, "batch": 1, "epochs": None, "limit": None}
"""Parameters of `accuracy` that are shown only where they differ; together they identify a configuration."""


def _configuration(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    names = [str(parameters[name]) for name in ("data", "dataset", "width", "head") if parameters.get(name) is not None]
    units = {"batch": "a request", "epochs": "epochs", "limit": "images"}
    others = [
        f"{parameters[name]} {units.get(name, '')}".strip()
        for name, usual in _USUAL.items()
        if parameters.get(name, usual) != usual
    ]
    return (*names, *others)


def _accuracy(records: Sequence[Record]) -> Table | None:
    sound = [record for record in records if isinstance(record.figures.get("clear"), Mapping)]
    if not sound:
        return None
    rows: list[tuple[str, ...]] = []
    for key, runs in group_by_configuration(sound).items():
        clear = [run.figures["clear"] for run in runs]
        sealed = [run.figures["encrypted"] for run in runs if isinstance(run.figures.get("encrypted"), Mapping)]
        rows.append(
            (
                ", ".join(key),
                str(len(runs)),
                format_value(runs[0].figures.get("n")),
                format_spread([one["accuracy"] for one in clear]),
                format_spread([one["accuracy"] for one in sealed]),
                format_spread([one["auc"] for one in clear]),
                format_spread([one["auc"] for one in sealed]),
                format_value(min((one["mcnemar_p"] for one in sealed), default=None)),
                format_value(sum(one["flips_beyond_error"] for one in sealed) if sealed else None),
                format_value(max((one["score_error"]["largest"] for one in sealed), default=None)),
            )
        )
    failed = [record for record in records if record.figures.get("failed")]
    for record in failed:
        reason = str(record.figures["failed"])
        rows.append((f"{format_value(record.parameters.get('head'))}: failed: {reason}", *("" for _ in range(9))))
    heads = ("configuration", "seeds", "n", "accuracy, clear", "encrypted", "AUC, clear", "encrypted")
    return Table((*heads, "least McNemar P", "flips beyond error", "largest score error"), tuple(rows))


def _crossval(records: Sequence[Record]) -> Table:
    rows = [
        (
            str(record.parameters.get("dataset", "")),
            f"{record.parameters['head']}, {record.parameters['width']} features",
            format_value(record.parameters["offset"]) if record.parameters["head"] == "mlp" else "",
            format_value(record.parameters["mixup"]),
            format_value(one["networks"]),
            f"{one['auc']:.4f}",
            f"{one['accuracy']:.4f}",
            f"{one['balanced_accuracy']:.4f}",
            f"{one['log_loss']:.4f}",
        )
        for record in records
        for one in record.figures.values()
    ]
    heads = ("set", "head", "x² begins at", "mixup", "networks", "AUC", "accuracy", "balanced accuracy", "log loss")
    return Table(heads, tuple(rows))


def _inversion(records: Sequence[Record]) -> Table:
    rows = [
        (
            str(record.parameters.get("dataset", "")),
            way,
            f"{one['psnr']:.2f}",
            f"{one['ssim']:.3f}",
            f"{one['found']:.1%}",
            format_value(
                record.figures["ciphertexts"] if way.startswith("ciphertext") else record.figures["test_images"]
            ),
        )
        for record in records
        for way, one in record.figures["rebuilt"].items()
    ]
    return Table(("set", "rebuilt by", "PSNR, dB", "SSIM", "recognised", "test images"), tuple(rows))


def _membership(records: Sequence[Record]) -> Table:
    rows = [
        (
            str(record.parameters.get("dataset", "")),
            name,
            f"{one['auc']:.3f}",
            f"{one['low']:.3f} to {one['high']:.3f}",
            f"{one['caught']:.1%}",
        )
        for record in records
        for name, one in record.figures["signals"].items()
    ]
    return Table(("set", "what the attacker has", "AUC", "95 % interval", "caught at 1 % false"), tuple(rows))


def _price(records: Sequence[Record]) -> Table:
    rows = [
        (
            str(record.parameters.get("dataset", "")),
            str(row["head"]),
            str(row["path"]),
            format_value(row["images"]),
            format_value(row["accuracy"]),
            format_value(row["wall_ms"]),
            format_value(row["cpu_ms"]),
            format_value(row["ratio"]),
            format_value(row["bytes_up"]),
            format_value(row["bytes_down"]),
            format_value(row["key_bytes"]),
            format_value(row["largest_error"]),
        )
        for record in records
        for row in record.figures["rows"]
    ]
    heads = ("set", "head", "path", "images", "accuracy", "wall, ms", "CPU, ms", "wall, as a share of TenSEAL's")
    return Table((*heads, "bytes up", "bytes down", "key bytes", "largest error"), tuple(rows))
