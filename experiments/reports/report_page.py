"""Makes one page or Markdown of records: tables, charts, the pictures beside the records, the commands."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.present.drawing import Picture
from experiments.present.markdown_tables import Table, format_value
from experiments.present.pages import render_template
from experiments.records.records import Record
from experiments.reports.charts import draw_chart
from experiments.reports.tables import Section, group_sections, make_table

_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class RunPicture:
    """A picture that a run drew, or the reason why it cannot be shown."""

    picture: Picture | None
    why: str


@dataclass(frozen=True)
class ReportPart:
    """A report's part on one kind of experiment."""

    section: Section
    table: Table
    chart: Picture | None
    pictures: tuple[RunPicture, ...]
    commands: tuple[str, ...]


def make_parts(files: Sequence[tuple[Path, list[Record]]]) -> list[ReportPart]:
    """All that a report shows. Pictures are looked for beside the file of the record that names them."""
    folders = {id(record): path.parent for path, records in files for record in records}
    made = []
    for section in group_sections([record for _, records in files for record in records]):
        pictures = tuple(
            _picture(record, folders[id(record)]) for record in section.records if record.figures.get("picture")
        )
        commands = tuple(dict.fromkeys(record.command for record in section.records))
        made.append(ReportPart(section, make_table(section), draw_chart(section), pictures, commands))
    return made


def render_html(parts: Sequence[ReportPart], title: str) -> str:
    """Render one page with everything inside; it asks for nothing from outside."""
    return render_template(
        "report.html.j2", {"numeric": _numeric}, title=title, parts=parts, origins=list_origins(parts)
    )


def render_markdown(parts: Sequence[ReportPart], images: str) -> tuple[str, dict[str, Picture]]:
    """The docs' tables, and their charts by file name; `images` is the folder as the text links it."""
    lines: list[str] = []
    charts: dict[str, Picture] = {}
    for part in parts:
        lines += [f"## {part.section.title}", ""]
        if part.chart is not None:
            name = f"{part.section.kind}.png"
            charts[name] = part.chart
            lines += [f"![{part.chart.alternative}]({images}/{name})", ""]
        lines += [part.table.to_markdown(), ""]
        lines += ["```sh", *part.commands, "```", ""]
    lines += ["## Versions and machines", ""]
    lines += [f"- {line}" for line in list_origins(parts)]
    return "\n".join(lines) + "\n", charts


def list_origins(parts: Sequence[ReportPart]) -> list[str]:
    """Each set of versions and each machine that records come from, once."""
    found: dict[str, int] = {}
    for part in parts:
        for record in part.section.records:
            machine = record.machine
            text = (
                f"{format_value(machine.get('processor'))}, {format_value(machine.get('cores'))} cores, "
                f"{format_value(machine.get('memory_gb'))} GB, {format_value(machine.get('system'))}; "
            ) + ", ".join(f"{name} {number}" for name, number in record.versions.items())
            found[text] = found.get(text, 0) + 1
    return [f"{count} run{'s' if count > 1 else ''}: {text}" for text, count in found.items()]


def _picture(record: Record, folder: Path) -> RunPicture:
    """The picture that a record names, if it is there and is the one that was drawn then."""
    named = record.figures["picture"]
    path = folder / Path(str(named.get("file", ""))).name
    try:
        data = path.read_bytes()
    except OSError:
        return RunPicture(
            None, f"The picture {path.name} of this run is not beside its records; run the command to draw it."
        )
    if hashlib.sha256(data).hexdigest() != named.get("sha256"):
        return RunPicture(
            None, f"The picture {path.name} is of another run than the record; run the command to draw it anew."
        )
    kind = _TYPES.get(path.suffix)
    if kind is None:
        return RunPicture(None, f"The picture {path.name} is neither PNG nor SVG.")
    return RunPicture(Picture(kind, data, str(named.get("shows", path.name))), "")


def _numeric(text: str) -> bool:
    return re.fullmatch(r"[-+–]?[\d.,]*(e[-+]?\d+)?( ?%)?", text) is not None
