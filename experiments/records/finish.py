"""Options and the last step of every experiment's command: figures, picture and record are written."""

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from he_infer.commands.number_options import MOST_SEED

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.present.drawing import Picture

DataSet = Annotated[str, typer.Option(help="A data set: a MedMNIST name, an .npz file, a folder, or 'modality'.")]
TrainingSeed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the training; keys are always fresh.")]
RecordFile = Annotated[
    Path | None,
    typer.Option("--record", dir_okay=False, help="Append a record of the run (JSON Lines) to this file."),
]
FigureFile = Annotated[Path | None, typer.Option("--figure", dir_okay=False, help="Draw the picture here (PNG).")]


def format_command(name: str, *words: object, **options: object) -> str:
    """The command that gives the figures again; options that are None or False are left out, lists are repeated."""
    parts = ["he-experiments", name, *(str(word) for word in words)]
    for option, given in options.items():
        for value in given if isinstance(given, list) else [given]:
            if value is None or value is False:
                continue
            parts.append("--" + option.replace("_", "-"))
            if value is not True:
                parts.append(str(value))
    return shlex.join(parts)


def refuse_missing_folders(**files: Path | None) -> None:
    """Refuse an output file that cannot be written before the work rather than after it.

    Raises:
        typer.BadParameter: the folder of a file that is to be written does not exist.
        OSError: the file cannot be written.
    """
    from he_infer.files import expect_writable

    for option, path in files.items():
        if path is not None and not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"the folder {path.absolute().parent} does not exist", param_hint=f"--{option}")
        expect_writable(path)


def write_outcome(
    console: "Console",
    kind: str,
    *,
    command: str,
    seed: int,
    parameters: Mapping[str, Any],
    figures: Mapping[str, Any],
    drawn: "Picture | None" = None,
    figure: Path | None = None,
    json: Path | None = None,
    record: Path | None = None,
) -> None:
    """Write the files that were asked for.

    A record names the picture that was written with it (`figures.picture`: file name, SHA-256 and alternative text),
    so that a report can show it and knows when it is another one. The picture itself stays outside of the record: it
    may show images of patients.

    Raises:
        OSError: a file cannot be written.
        RecordError: the figures have no form in JSON.
    """
    from experiments.present.drawing import save_picture
    from experiments.records.records import Record, append_record
    from he_infer.files import write_json

    found = dict(figures)
    if drawn is not None and figure is not None:
        save_picture(figure, drawn)
        digest = hashlib.sha256(drawn.data).hexdigest()
        found["picture"] = {"file": figure.name, "sha256": digest, "shows": drawn.alternative}
        console.print(f"picture: {figure}", highlight=False, soft_wrap=True)
    made = Record.of(kind, command=command, seed=seed, parameters=parameters, figures=found)
    if json is not None:
        write_json(json, {"command": command, "seed": seed, "parameters": made.parameters, **made.figures})
        console.print(f"figures: {json}", highlight=False, soft_wrap=True)
    if record is not None:
        append_record(record, made)
        console.print(f"record: {record}", highlight=False, soft_wrap=True)
