"""`he-experiments report` and `compare`: a page or tables from records; changes between two files of records."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import require_finite

if TYPE_CHECKING:
    from experiments.reports.comparison import Change

Records = Annotated[list[Path], typer.Argument(metavar="RECORDS...", help="Files of records (JSON Lines).")]


def report(
    records: Records,
    *,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Write one self-contained page here.")] = None,
    markdown: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the docs' tables here.")] = None,
    images: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for the charts that --markdown links.")
    ] = None,
    title: Annotated[str, typer.Option(help="The page's title.")] = "he-infer: experiments",
) -> None:
    """Turn records into one page, or into tables and charts for the docs; under each stands its command.

    Pictures that a run drew are shown if they lie beside its file of records and are the ones that it names.

    Example: `he-experiments report results/*.jsonl --html report.html`
    """
    from experiments.present.drawing import save_picture
    from experiments.records.finish import refuse_missing_folders
    from experiments.records.records import read_records
    from experiments.reports.report_page import make_parts, render_html, render_markdown
    from he_infer.errors import UsageError
    from he_infer.files import write_text
    from he_infer.terminal import make_console

    if html is None and markdown is None:
        raise UsageError("Nothing to write: name a page with --html, tables with --markdown, or both.")
    refuse_missing_folders(html=html, markdown=markdown)
    console = make_console()
    parts = make_parts([(path, read_records(path)) for path in records])
    if not parts:
        raise UsageError("These files hold no records. Run an experiment with --record first.")
    if html is not None:
        write_text(html, render_html(parts, title))
        console.print(f"page: {html}", highlight=False, soft_wrap=True)
    if markdown is not None:
        folder = images or markdown.parent
        folder.mkdir(parents=True, exist_ok=True)
        text, charts = render_markdown(parts, _relative(folder, markdown.parent))
        for name, drawn in charts.items():
            save_picture(folder / name, drawn)
        write_text(markdown, text)
        console.print(f"tables: {markdown}", highlight=False, soft_wrap=True)
    for part in parts:
        for shown in part.pictures:
            if shown.picture is None:
                console.print(f"note: {shown.why}", style="yellow", soft_wrap=True)
    total = sum(len(part.section.records) for part in parts)
    console.print(f"{total} runs of {len(parts)} kinds.", highlight=False)


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="The earlier file of records.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The later one.")],
    *,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, callback=require_finite, help="Figures that differ by less than this share count as equal."
        ),
    ] = 0.01,
    time_tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            callback=require_finite,
            help="The same for times (names that end in ms or seconds), which vary by themselves.",
        ),
    ] = 0.25,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a figure changed or a run is missing.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Show what changed between two files of records: figures beyond a tolerance, versions, machines, runs.

    Runs are the same where kind, seed and parameters are.

    Example: `he-experiments compare before.jsonl after.jsonl --tolerance 0.005`
    """
    from rich.table import Table

    from experiments.present.markdown_tables import format_value
    from experiments.records.finish import refuse_missing_folders
    from experiments.records.records import read_records
    from experiments.reports.comparison import compare_records as compared
    from he_infer.files import write_json
    from he_infer.terminal import make_console

    refuse_missing_folders(json=json_file)
    console = make_console()
    found = compared(read_records(before), read_records(after), tolerance=tolerance, time_tolerance=time_tolerance)
    for heading, changes in (("figures", found.figures), ("versions and machine", found.surroundings)):
        if not changes:
            continue
        table = Table(title=f"Changed {heading}", title_justify="left")
        for name in ("run", "what", "A", "B", "change"):
            table.add_column(name, justify="right" if name in ("A", "B", "change") else "left", overflow="fold")
        for change in changes:
            table.add_row(
                change.run, change.name, format_value(change.before), format_value(change.after), _share(change)
            )
        console.print(table)
    for title, runs in (("Only in A", found.only_before), ("Only in B", found.only_after)):
        for run in runs:
            console.print(f"{title}: {run}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{found.runs} runs in both files, {found.compared} figures compared, {len(found.figures)} changed beyond "
        f"{tolerance:.2%} (times: {time_tolerance:.0%}).",
        highlight=False,
    )
    if json_file is not None:
        write_json(json_file, found.to_json())
    if strict and (found.figures or found.only_before):
        raise typer.Exit(1)


def _share(change: "Change") -> str:
    share = change.share
    return "" if share is None else f"{share:+.1%}"


def _relative(folder: Path, start: Path) -> str:
    """The folder as seen from another, with forward slashes."""
    import os

    return Path(os.path.relpath(folder.resolve(), start.resolve())).as_posix()
