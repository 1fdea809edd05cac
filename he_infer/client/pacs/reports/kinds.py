"""Kinds of reports of a result, and their files in a folder."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from cipher.files.atomic import write_bytes
from he_infer.client.pacs.reports.findings import Findings
from he_infer.client.pacs.reports.statement import Statement
from he_infer.client.pacs.reports.structured import build_report, to_bytes
from he_infer.client.pacs.reports.uids import ReportUids
from he_infer.errors import ReportError

KINDS = ("sr", "pdf")


def parse_kinds(text: str) -> tuple[str, ...]:
    """Read a list such as `sr,pdf`.

    Raises:
        ReportError: the list is empty, or names an unknown kind.
    """
    kinds = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ReportError(
            f"There is no report of the kind {', '.join(unknown) or repr(text)}. Expected sr, pdf or both."
        )
    return kinds


def build_reports(
    kinds: Sequence[str], statement: Statement, source: Dataset, findings: Findings, uids: ReportUids
) -> list[Dataset]:
    """Make the reports of these kinds of one image.

    Raises:
        ReportError: see `structured.build_report`.
    """
    from he_infer.client.pacs.reports.pdf import build_pdf_report

    made = []
    for kind in kinds:
        if kind == "sr":
            made.append(build_report(statement, source, findings, uids))
        else:
            made.append(build_pdf_report(statement, source, uids))
    return made


def write_reports(folder: Path, reports: Iterable[Dataset]) -> list[Path]:
    """Write reports as files named by SOP Instance UID, whole or not at all. The same result's file is replaced.

    Raises:
        OSError: the folder cannot be made.
        StorageProblem: a file cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = []
    for report in reports:
        path = folder / f"{report.SOPInstanceUID}.dcm"
        write_bytes(path, to_bytes(report))
        paths.append(path)
    return paths
