"""A result as a page of PDF, encapsulated as a DICOM object for viewers that show no Structured Reports."""

import datetime
from functools import cache
from io import BytesIO
from pathlib import Path

import reportlab
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import simpleSplit
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from he_infer import __version__
from he_infer.client.pacs.reports.statement import NOT_A_DIAGNOSIS, Statement
from he_infer.client.pacs.reports.structured import PROGRAM, instance_number
from he_infer.client.pacs.reports.uids import ReportUids

SERIES_NUMBER = 8002
_MARGIN, _WIDTH = 56.0, A4[0] - 2 * 56.0
_COPIED = (
    "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip


def build_pdf_report(statement: Statement, source: Dataset, uids: ReportUids) -> Dataset:
    """Make the Encapsulated PDF of one image; arguments as for `structured.build_report`.

    The page names the patient, so Burned In Annotation is YES.
    """
    now = datetime.datetime.now()
    series = (source.StudyInstanceUID, statement.model, statement.head_digest)
    key = (*series, statement.plan)
    image = (source.SOPInstanceUID, "" if statement.frame is None else str(statement.frame))
    page = draw_page(statement, source, now)
    report = Dataset()
    for keyword in _COPIED:
        setattr(report, keyword, source[keyword].value)
    report.SpecificCharacterSet = "ISO_IR 192"
    report.SOPClassUID = EncapsulatedPDFStorage
    report.SOPInstanceUID = uids.derive("PDF report", *key, *image)
    report.SeriesInstanceUID = uids.derive("PDF report series", *series)
    report.SeriesNumber, report.InstanceNumber = SERIES_NUMBER, instance_number(source)
    report.Modality, report.ConversionType = "DOC", "WSD"
    report.SeriesDescription = f"{statement.model} (not a diagnosis)"[:64]
    report.Manufacturer = report.ManufacturerModelName = PROGRAM
    report.SoftwareVersions = __version__
    report.DeviceSerialNumber = uids.derive("device")[-32:]
    report.InstanceCreationDate = report.ContentDate = now.strftime("%Y%m%d")
    report.InstanceCreationTime = report.ContentTime = now.strftime("%H%M%S")
    report.AcquisitionDateTime = ""
    report.BurnedInAnnotation = "YES"
    report.DocumentTitle = "Result of a classification model, not a diagnosis"
    report.ConceptNameCodeSequence = [_code("126000", "DCM", "Imaging Measurement Report")]
    report.SourceInstanceSequence = [_reference(source)]
    report.MIMETypeOfEncapsulatedDocument = "application/pdf"
    report.EncapsulatedDocument = page + b"\0" * (len(page) % 2)
    report.EncapsulatedDocumentLength = len(page)
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
    return report


def draw_page(statement: Statement, source: Dataset, now: datetime.datetime) -> bytes:
    """The page itself, as a PDF of A4 size."""
    plain, bold = _fonts()
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    canvas.setTitle("Result of a classification model, not a diagnosis")
    canvas.setCreator(f"{PROGRAM} {__version__}")
    y = A4[1] - _MARGIN

    def write(text: str, size: float = 10, font: str = plain, gap: float = 4, fill: float = 0) -> None:
        nonlocal y
        canvas.setFillGray(fill)
        for line in simpleSplit(_showable(text, font), font, size, _WIDTH):
            canvas.setFont(font, size)
            canvas.drawString(_MARGIN, y - size, line)
            y -= size * 1.3
        y -= gap

    write("Result of a classification model", 18, bold, 2)
    write("Not a diagnosis. Not reviewed by a person. Made by software that is no medical device.", 10, bold, 14)
    born = _date(source.PatientBirthDate)
    for name, value in (
        ("Patient", f"{source.PatientName or 'no name'}, ID {source.PatientID or 'unknown'}, born {born}"),
        ("Study", f"{_date(source.StudyDate)}, accession {source.AccessionNumber or 'none'}"),
        ("Image", f"{source.get('Modality', '')} instance {instance_number(source)}{_frame(statement)}"),
    ):
        write(f"{name}:  {value}", gap=2)
    y -= 12
    if statement.refusal is not None:
        write("Not classified", 22, bold, 4)
        write(statement.refusal, 11, gap=14)
    else:
        write(str(statement.label), 22, bold, 4)
        write(f"Calibrated probability: {statement.percent:g} %", 12, gap=10)
        y = _draw_scale(canvas, y, statement, plain)
    write("How it was computed", 12, bold, 4)
    for parameter in statement.parameters:
        write(parameter.replace("=", ":  ", 1), 8, gap=1)
    write(f"study:  {source.StudyInstanceUID}", 8, gap=1)
    write(f"image:  {source.SOPInstanceUID}", 8, gap=1)
    write(f"made:  {now:%Y-%m-%d %H:%M:%S} by {PROGRAM} {__version__}", 8, gap=14)
    write(NOT_A_DIAGNOSIS, 9, fill=0.25)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _draw_scale(canvas: Canvas, y: float, statement: Statement, font: str) -> float:
    """Draw a bar from 0 to 100 percent with probability and operating point; returns the height of the next line."""
    canvas.setFillGray(0.9)
    canvas.rect(_MARGIN, y - 14, _WIDTH, 12, stroke=0, fill=1)
    canvas.setFillGray(0.35)
    canvas.rect(_MARGIN, y - 14, _WIDTH * statement.decided_percent / 100, 12, stroke=0, fill=1)
    canvas.setFillGray(0)
    canvas.setFont(font, 8)
    canvas.drawString(_MARGIN, y - 24, _showable(f"0 % {statement.decided}", font))
    canvas.drawRightString(_MARGIN + _WIDTH, y - 24, "100 %")
    if statement.threshold is not None:
        x = _MARGIN + _WIDTH * statement.threshold
        canvas.setLineWidth(1.5)
        canvas.line(x, y - 17, x, y + 1)
        edge = 90.0  # half of the text's width, so that the text stays on the page
        x = min(max(x, _MARGIN + edge), _MARGIN + _WIDTH - edge)
        canvas.drawCentredString(x, y - 34, f"operating point {100 * statement.threshold:g} %")
    return y - 52


@cache
def _fonts() -> tuple[str, str]:
    """Register the fonts that come with reportlab; they hold Latin letters beyond those of Helvetica."""
    folder = Path(reportlab.__file__).parent / "fonts"
    pdfmetrics.registerFont(TTFont("Vera", str(folder / "Vera.ttf")))
    pdfmetrics.registerFont(TTFont("VeraBd", str(folder / "VeraBd.ttf")))
    return "Vera", "VeraBd"


def _showable(text: str, font: str) -> str:
    """Replace letters that the font lacks by '?'. The DICOM object's attributes hold the original text."""
    known = pdfmetrics.getFont(font).face.charToGlyph
    return "".join(character if ord(character) in known else "?" for character in text)


def _date(text: object) -> str:
    digits = str(text or "")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}" if len(digits) == len("YYYYMMDD") else "unknown"


def _frame(statement: Statement) -> str:
    return "" if statement.frame is None else f", frame {statement.frame + 1}"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [_code("121324", "DCM", "Source Image")]
    return item
