"""A folder of DICOM (or other) images with a CSV table that gives each file its label."""

import csv
import io
import os
from collections import Counter
from pathlib import Path

from models.datasets.dataset import Dataset
from models.datasets.gather import Labelled, gather
from models.errors import BadContents, BadLayout

FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "image_id")
LABEL_COLUMNS = ("label", "class", "target", "diagnosis")
SPLIT_COLUMNS = ("split", "set", "subset")
PATIENT_COLUMNS = ("patient", "patient_id", "patientid")

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def find_table(folder: Path) -> Path | None:
    """The table of a folder: its only CSV or TSV file, or `labels.csv`; None where there is none.

    Raises:
        BadLayout: several tables, and none is called labels.csv.
    """
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv") and path.is_file())
    if len(tables) <= 1:
        return tables[0] if tables else None
    named = [path for path in tables if path.stem.lower() == "labels"]
    if len(named) == 1:
        return named[0]
    raise BadLayout(
        f"{folder} holds {len(tables)} tables ({', '.join(path.name for path in tables)}). Give the table's path, or "
        "call the right one labels.csv."
    )


def load_table(table: Path, *, seed: int, sides: tuple[int, int]) -> Dataset:
    """Images by a table with a header line: `file`, `label`, and if wanted `split` and `patient`.

    Files are looked for below the table's folder, with and without the suffix .dcm. Other names of the columns are
    understood: see `FILE_COLUMNS` and its neighbours. Separators may be comma, semicolon or tab.

    Raises:
        BadLayout: not a table, or a column is missing.
        BadContents: a file of the table is missing, or bears two labels, or an unknown split.
    """
    rows = _rows(table)
    columns: dict[str, str] = {}
    for name in rows[0][1]:
        if columns.setdefault(_plain(name), name) != name:
            raise BadLayout(
                f"{table} has the columns '{columns[_plain(name)]}' and '{name}', which mean the same. Remove one."
            )
    file_column = _column(table, columns, FILE_COLUMNS)
    label_column = _column(table, columns, LABEL_COLUMNS)
    split_column = next((columns[name] for name in SPLIT_COLUMNS if name in columns), None)
    patient_column = next((columns[name] for name in PATIENT_COLUMNS if name in columns), None)
    items: dict[Path, Labelled] = {}
    missing: list[str] = []
    for number, row in rows:
        file, label = row[file_column].strip(), row[label_column].strip()
        if not file or not label:
            raise BadContents(
                f"{table}, line {number}: no {'file' if not file else 'label'}. Fill it in, or remove the line."
            )
        path = _find(table.parent, file)
        if path is None:
            missing.append(file)
            continue
        item = Labelled(
            path,
            label,
            _split(table, number, row[split_column]) if split_column else None,
            row[patient_column].strip() or None if patient_column else None,
        )
        first = items.setdefault(path, item)
        for what in ("label", "split", "patient"):
            earlier, later = getattr(first, what), getattr(item, what)
            if earlier != later:
                raise BadContents(
                    f"{table}, line {number}: {file} bears two {what}s, '{earlier}' and '{later}'. Keep one."
                )
    if missing:
        raise BadContents(
            f"{len(missing)} of the {len(rows)} files that {table} names are missing, the first is {missing[0]}. They "
            "are looked for below the table's folder: correct the names, or remove the lines."
        )
    return gather(table.resolve().parent.name, list(items.values()), seed=seed, sides=sides)


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """The table's rows with their line numbers.

    Raises:
        BadLayout: not text, no rows, columns of one name, or a row of more or fewer values than the header.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadLayout(f"{table} cannot be read as a table of text (UTF-8).") from error
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        while header and not header[-1]:
            header.pop()
        doubled = [name for name, count in Counter(header).items() if count > 1]
        if doubled:
            raise BadLayout(f"{table} has several columns called '{doubled[0]}'. Rename or remove all but one.")
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if any(value.strip() for value in values[len(header) :]) or len(values) < len(header):
                raise BadLayout(
                    f"{table}, line {reader.line_num}: {len(values)} values, but the header has {len(header)} columns. "
                    "Put quotes around a value that holds the separator, and a value in every column."
                )
            rows.append((reader.line_num, dict(zip(header, values, strict=False))))
    except csv.Error as error:
        raise BadLayout(f"{table}, line {reader.line_num}: it cannot be read as a table ({error}).") from error
    if not rows:
        raise BadLayout(f"{table} holds no rows. Expected a header line (file, label) and one line an image.")
    return rows


def _column(table: Path, columns: dict[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        if name in columns:
            return columns[name]
    raise BadLayout(
        f"{table} has no column '{names[0]}' (nor {', '.join(names[1:])}). Its columns are "
        f"{', '.join(columns.values())}: rename one."
    )


def _find(folder: Path, file: str) -> Path | None:
    root = folder.resolve()
    for candidate in (folder / file, folder / f"{file}.dcm"):
        # A table must not reach files outside its own folder. pathlib's is_file raises for names that are too long.
        if os.path.isfile(candidate) and candidate.resolve().is_relative_to(root):  # noqa: PTH113
            return candidate
    return None


def _plain(column: str) -> str:
    return column.strip().lower().replace(" ", "_")


def _split(table: Path, number: int, value: str | None) -> str:
    split = _SPLITS.get((value or "").strip().lower())
    if split is None:
        raise BadContents(f"{table}, line {number}: the split is '{value}'. Expected train, val or test.")
    return split
