"""`he-experiments cipher IMAGE...`: the cipher's whole evaluation, with its report."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from he_infer.console import write_json

if TYPE_CHECKING:
    from experiments.cipher_study import Study

DEFAULT_KEYS = 300
QUICK_KEYS = 40


def cipher(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="DICOM, PNG, TIFF or NumPy files; or the names of files that come with pydicom, such as CT_small.dcm.",
        ),
    ],
    keys: Annotated[int | None, typer.Option(min=20, help=f"Fresh keys for each measure ({DEFAULT_KEYS}).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Keys, salt and noise are drawn from it.")] = 1,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write every figure as JSON here.")] = None,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the report with its pictures here.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"A first look: {QUICK_KEYS} keys.")] = False,
) -> None:
    """Measure the inner image cipher on IMAGEs: correlation, NPCR, UACI, entropy, histograms, chosen images, SP 800-22.

    The same suite runs on an ideal cipher, which must pass, and on a weak one, which must be flagged. Exits with 1 if
    anything did not come out as it must.
    """
    from cipher.analysis.suite import Effort, Seeds
    from experiments.cipher_images import load
    from experiments.cipher_report import Run, as_html, as_json, write_page
    from experiments.cipher_study import study

    count = keys if keys is not None else QUICK_KEYS if quick else DEFAULT_KEYS
    _refuse_missing_folder("--json", json)
    _refuse_missing_folder("--html", html)
    console = Console()
    loaded = [load(name) for name in images]
    seeds, effort = Seeds(seed), Effort.for_keys(count)
    studies = []
    with _progress() as progress:
        for index, image in enumerate(loaded):
            steps = _Steps(progress, image.name)
            studies.append(study(image, effort, seeds, controls=index == 0, progress=steps))
    run = Run(tuple(studies), seeds, count, _command(images, count, seed))
    for finished in studies:
        _print(console, finished)
    if json is not None:
        write_json(json, as_json(run))
        console.print(f"figures: {json}", highlight=False)
    if html is not None:
        write_page(html, as_html(run))
        console.print(f"report: {html}", highlight=False)
    if run.surprises:
        for line in run.surprises:
            console.print(f"[bold red]not as it must be:[/] {escape(line)}", highlight=False)
        raise typer.Exit(1)
    console.print("Everything came out as it must: no line of ours or of an ideal cipher failed; the toy was flagged.")


def _refuse_missing_folder(option: str, path: Path | None) -> None:
    """Say so before the measurements rather than after them."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"the folder {path.absolute().parent} does not exist", param_hint=option)


class _Steps:
    """Shows each step of a study as a bar of its own."""

    def __init__(self, progress: Progress, image: str) -> None:
        self._progress, self._image = progress, image
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(escape(f"{self._image}: {step}"), total=total)
        self._progress.update(self._tasks[step], completed=done)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _command(images: list[str], keys: int, seed: int) -> str:
    return shlex.join(["he-experiments", "cipher", *images, "--keys", str(keys), "--seed", str(seed)])


def _print(console: Console, study: "Study") -> None:
    from experiments.cipher_report import probability, summary

    table = Table(title=escape(study.image.described), title_justify="left")
    for name in ("subject", "group"):
        table.add_column(name)
    for name in ("lines", "failed", "smallest P"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for row in summary(study):
        colour = {"pass": "green", "fail": "red"}.get(row.verdict.value, "dim")
        cells = (row.subject, row.group, str(row.lines), str(row.failed), probability(row.smallest))
        table.add_row(*cells, f"[{colour}]{row.verdict.value}[/]")
    console.print(table)
    for attack in study.attacks:
        console.print(
            f"four chosen images against the {attack.subject}: {attack.right_bytes:.2%} of a fifth image's bytes "
            "foretold (chance is 0.39%)",
            highlight=False,
        )
