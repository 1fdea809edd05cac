"""The demo's HTML report: one self-contained page with pictures, tables and what the server saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from he_infer.demo.audit import Audit, HeadAudit
from he_infer.demo.figures import Figures
from he_infer.demo.unlike import UnlikeImage
from he_infer.files import write_text
from he_infer.html_page import data_uri, render_page

_TILES = ("Pictures encrypted", "Accuracy encrypted", "Label agreement", "Server time", "Bytes up")
"""Figures that the page shows large."""


@dataclass(frozen=True)
class ReportLine:
    """A line of a table: a name, a formatted value and its meaning."""

    name: str
    value: str
    meaning: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that the page shows. Pictures are PNG bytes."""

    figures: Figures
    made: str
    notes: Sequence[str]
    method: Sequence[ReportLine]
    picture_cipher: bytes
    picture_confusion: bytes
    picture_path: bytes
    """A test image at the client, at the extractor and at the server."""
    picture_curves: bytes
    """ROC and reliability curves of the encrypted results."""
    audit: Audit
    head_audit: HeadAudit
    unlike: Sequence[UnlikeImage]
    picture_whole: bytes | None = None
    """Each test picture with its class by summed scores; None where images are whole pictures."""


def format_figures(figures: Figures) -> list[ReportLine]:
    """The table that the terminal and the page both show."""
    each = "image by image" if figures.pictures is None else "patch by patch"
    return [
        ReportLine("Accuracy in clear", f"{figures.clear_accuracy:.4f}", f"{each}, the head on clear features"),
        ReportLine("Accuracy encrypted", f"{figures.encrypted_accuracy:.4f}", f"{each}, the head on ciphertexts"),
        *_format_whole(figures),
        ReportLine("Majority's share", f"{figures.majority_share:.4f}", "accuracy of always naming the largest class"),
        ReportLine("Label agreement", f"{figures.label_agreement:.4f}", "share with the same label both ways"),
        ReportLine(
            "Largest difference",
            f"{figures.max_probability_difference:g}",
            "|encrypted - clear| of all probabilities, as the client rounds them",
        ),
        ReportLine("Largest score error", f"{figures.max_abs_error:.1e}", "of the questions tried at publishing"),
        ReportLine(
            "Server time",
            f"{figures.server_ms_median:.1f} ms",
            f"median a request of {figures.batch} images: load, evaluate, save",
        ),
        ReportLine("Bytes up", _kb(figures.bytes_up), "mean of a request, envelope included"),
        ReportLine("Bytes down", _kb(figures.bytes_down), "mean of an answer, envelope included"),
        ReportLine("Evaluation keys", _kb(figures.evaluation_key_bytes), "registered once a client and plan"),
        ReportLine("Image cipher", f"{figures.cipher_mb_per_s:.0f} MB/s", "file to synced container, one thread"),
    ]


def _format_whole(figures: Figures) -> list[ReportLine]:
    """Lines for whole pictures and patients, where images are patches of pictures."""
    lines = []
    if figures.pictures is not None:
        right = f"{figures.pictures_right_encrypted} of {figures.pictures}"
        lines.append(ReportLine("Pictures encrypted", right, "decrypted probabilities of a picture's patches, summed"))
        right = f"{figures.pictures_right_clear} of {figures.pictures}"
        lines.append(ReportLine("Pictures in clear", right, "clear probabilities of a picture's patches, summed"))
    if figures.patients is not None:
        right = f"{figures.patients_right_encrypted} of {figures.patients}"
        lines.append(ReportLine("Patients encrypted", right, "decrypted probabilities of a patient's patches, summed"))
    return lines


def render_report(report: Report) -> str:
    """The page as HTML; it refers to nothing outside itself."""
    rows = format_figures(report.figures)
    tiles = [
        row
        for row in rows
        if row.name in ("Pictures encrypted", "Accuracy encrypted", "Label agreement", "Server time", "Bytes up")
    ]
    return render_page(
        "he_infer.demo",
        "report.html.j2",
        title=f"he-infer: {report.figures.dataset}",
        figures=report.figures,
        made=report.made,
        notes=report.notes,
        tiles=tiles,
        table=rows,
        method=report.method,
        picture_cipher=data_uri("image/png", report.picture_cipher),
        picture_confusion=data_uri("image/png", report.picture_confusion),
        picture_path=data_uri("image/png", report.picture_path),
        picture_curves=data_uri("image/png", report.picture_curves),
        audit=report.audit,
        head_audit=report.head_audit,
        unlike=report.unlike,
        picture_whole=None if report.picture_whole is None else data_uri("image/png", report.picture_whole),
    )


def write_report(report: Report, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render_report(report))


def _kb(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1_000_000 else f"{count / 1e3:.1f} KB"
