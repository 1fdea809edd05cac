"""`he-experiments cipher IMAGE...`: the cipher's whole evaluation, with its report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from he_infer.commands.number_options import MOST_SEED
from he_infer.files import write_json, write_text
from he_infer.terminal import Progress, make_console, show_progress

if TYPE_CHECKING:
    from experiments.image_cipher.report import GroupVerdict
    from experiments.image_cipher.study import Study

DEFAULT_KEYS = 300
QUICK_KEYS = 40


def cipher(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="DICOM, PNG, TIFF or NumPy files; or the names of files that come with pydicom, such as CT_small.dcm.",
        ),
    ],
    keys: Annotated[int | None, typer.Option(min=20, help=f"Fresh keys for each measure ({DEFAULT_KEYS}).")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Keys, salt and noise are drawn from it.")] = 1,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write every figure as JSON here.")] = None,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the report with its pictures here.")] = None,
    markdown: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the tables for the docs here.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"A first look: {QUICK_KEYS} keys.")] = False,
) -> None:
    """Measure the inner image cipher on IMAGEs: correlation, NPCR, UACI, entropy, histograms, chosen images, SP 800-22.

    The same suite runs on an ideal cipher, which must pass, and on a weak one, which must be flagged. Exits with 1 if
    one of them did not.

    Example: `he-experiments cipher CT_small.dcm --html cipher.html`
    """
    from cipher.analysis.suite import Effort, Seeds
    from experiments.image_cipher.images import load_image
    from experiments.image_cipher.report import EvaluationRun, render_html, render_json, render_markdown
    from experiments.image_cipher.study import run_study
    from experiments.records.finish import format_command, refuse_missing_folders

    count = keys if keys is not None else QUICK_KEYS if quick else DEFAULT_KEYS
    refuse_missing_folders(json=json, html=html, markdown=markdown)
    console = make_console()
    loaded = [load_image(name) for name in images]
    seeds, effort = Seeds(seed), Effort.for_keys(count)
    studies = []
    for index, image in enumerate(loaded):
        with show_progress(image.name) as move:

            def show_step(step: str, done: int, total: int, name: str = image.name, move: Progress = move) -> None:
                move(done, total, f"{name}: {step}")

            studies.append(run_study(image, effort, seeds, controls=index == 0, progress=show_step))
    run = EvaluationRun(tuple(studies), seeds, count, format_command("cipher", *images, keys=count, seed=seed))
    for finished in studies:
        _print(console, finished)
    if json is not None:
        write_json(json, render_json(run))
        console.print(f"figures: {json}", highlight=False)
    if html is not None:
        write_text(html, render_html(run))
        console.print(f"report: {html}", highlight=False)
    if markdown is not None:
        write_text(markdown, render_markdown(run))
        console.print(f"tables: {markdown}", highlight=False)
    if run.surprises:
        for line in run.surprises:
            console.print(f"failed: {line}", style="bold red")
        raise typer.Exit(1)
    console.print("Passed: no line of the inner or an ideal cipher failed, and the toy was flagged.", soft_wrap=True)


def _print(console: Console, study: "Study") -> None:
    """Print a row for each group: in each column the lines passed and the smallest P-value."""
    from experiments.image_cipher.report import StudySummary

    summary = StudySummary.of(study)
    table = Table(title=study.image.described, title_justify="left", box=box.SIMPLE)
    for name in ("lines passed, smallest P", *summary.columns):
        table.add_column(name, no_wrap=True)
    for group, row in summary.rows.items():
        table.add_row(group, *(_cell(row[name]) if name in row else "" for name in summary.columns))
    console.print(table)
    for attack in study.attacks:
        console.print(
            f"four chosen images against the {attack.subject}: {attack.right_bytes:.2%} of another image's bytes "
            "foretold (chance: 0.39%)",
            highlight=False,
            soft_wrap=True,
        )


def _cell(cell: "GroupVerdict") -> Text:
    text = f"{cell.passed}/{cell.lines}" + ("" if cell.smallest is None else f"  {cell.smallest:.1g}")
    return Text(f"✓ {text}", style="green") if cell.passed == cell.lines else Text(f"✗ {text}", style="red")
