"""Reports are accepted by dciodvfy (dicom3tools) and dsrdump (DCMTK) for CT, MR, US and CR images."""

import subprocess
import warnings
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from he_infer.client.pacs.reports.findings import read_findings
from he_infer.client.pacs.reports.kinds import build_reports, parse_kinds, write_reports
from he_infer.client.pacs.reports.source import read_source, reduce_source
from he_infer.client.pacs.reports.statement import NOT_A_DIAGNOSIS, Statement, digest_receipt
from he_infer.client.pacs.reports.structured import build_report, comment, to_bytes
from he_infer.client.pacs.reports.uids import ReportUids
from he_infer.errors import ReportError

FILES = ("CT_small.dcm", "MR_small.dcm", "US1_UNCR.dcm", "RG1_UNCR.dcm", "RG3_UNCR.dcm", "emri_small.dcm")
CARD = {"findings": {"codes": {"pneumonia": {"value": "233604007", "scheme": "SCT", "meaning": "Pneumonia"}}}}
FINDINGS = read_findings(CARD, ["normal", "pneumonia"])
UIDS = ReportUids(b"\x07" * 32)
FOUND = Statement(
    model="chest-0a1b2c3d", publisher="Clinic of Radiology", head_digest="a" * 64, plan="b" * 64, label="pneumonia",
    probability=0.93441, threshold=0.37, digits=3, receipt_digest="c" * 64,
)  # fmt: skip
REFUSED = Statement(model="chest-0a1b2c3d", publisher="", head_digest="", plan="b" * 64, refusal="It is no chest.")


def packaged(name: str) -> Path:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return Path(path)


def errors_of(path: Path) -> list[str]:
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).splitlines()
    assert said, "dciodvfy said nothing"
    return [line for line in said if line.startswith("Error")]


def items(report: Dataset) -> list[Dataset]:
    found = []
    for item in report.get("ContentSequence", []):
        found += [item, *items(item)]
    return found


def named(report: Dataset, meaning: str) -> list[Dataset]:
    return [item for item in items(report) if item.ConceptNameCodeSequence[0].CodeMeaning == meaning]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("statement", [FOUND, REFUSED], ids=["found", "refused"])
def test_report_of_packaged_image_is_accepted_by_dciodvfy_and_dsrdump(
    name: str, statement: Statement, tmp_path: Path
) -> None:
    source = read_source(packaged(name))
    paths = write_reports(tmp_path, build_reports(("sr", "pdf"), statement, source, FINDINGS, UIDS))
    assert len(paths) == 2
    assert [errors_of(path) for path in paths] == [[], []]
    dump = subprocess.run(["dsrdump", str(paths[0])], capture_output=True, text=True, check=False, timeout=60)
    assert dump.returncode == 0
    assert "Completion Flag     : COMPLETE" in dump.stdout
    assert "Verification Flag   : UNVERIFIED" in dump.stdout


def test_report_states_finding_probability_algorithm_and_no_diagnosis() -> None:
    source = read_source(packaged("RG1_UNCR.dcm"))
    report = build_report(FOUND, source, FINDINGS, UIDS)
    (finding,) = named(report, "Finding")
    code = finding.ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("233604007", "SCT", "Pneumonia")
    (probability,) = named(report, "Probability")
    measured = probability.MeasuredValueSequence[0]
    assert float(measured.NumericValue) == 93.4
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    parameters = [item.TextValue for item in named(report, "Algorithm Parameters")]
    assert f"receipt SHA-256={'c' * 64}" in parameters
    assert f"head SHA-256={'a' * 64}" in parameters
    assert f"plan SHA-256={'b' * 64}" in parameters
    assert "operating point=0.37 of 'pneumonia'" in parameters
    (comment,) = named(report, "Comment")
    assert comment.TextValue.endswith(NOT_A_DIAGNOSIS)
    (image,) = named(report, "Source of Measurement")
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    described = [item.get("ContributionDescription") for item in report.ContributingEquipmentSequence]
    assert "Processing Algorithm" in described
    assert report.StudyInstanceUID == source.StudyInstanceUID
    assert report.SeriesInstanceUID != source.SeriesInstanceUID
    assert "CodingSchemeIdentificationSequence" not in report


def test_class_without_code_is_coded_in_identified_private_scheme() -> None:
    statement = Statement(**{**FOUND.__dict__, "label": "normal"})
    report = build_report(statement, read_source(packaged("CT_small.dcm")), FINDINGS, UIDS)
    (finding,) = named(report, "Finding")
    assert finding.ConceptCodeSequence[0].CodingSchemeDesignator == "99HEINFER"
    assert [item.CodingSchemeDesignator for item in report.CodingSchemeIdentificationSequence] == ["99HEINFER"]


def test_refusal_report_has_reason_and_neither_finding_nor_probability() -> None:
    report = build_report(REFUSED, read_source(packaged("CT_small.dcm")), FINDINGS, UIDS)
    assert not named(report, "Finding")
    assert not named(report, "Probability")
    assert "It is no chest." in named(report, "Comment")[0].TextValue


def test_frame_is_referenced_counting_from_one() -> None:
    statement = Statement(**{**FOUND.__dict__, "frame": 4})
    report = build_report(statement, read_source(packaged("emri_small.dcm")), FINDINGS, UIDS)
    (image,) = named(report, "Source of Measurement")
    assert image.ReferencedSOPSequence[0].ReferencedFrameNumber == 5


def test_same_result_gets_same_uid_and_any_other_input_another() -> None:
    source = read_source(packaged("CT_small.dcm"))
    other = read_source(packaged("MR_small.dcm"))
    changed = [
        (Statement(**{**FOUND.__dict__, **change}), source, UIDS)
        for change in ({"model": "x"}, {"plan": "d" * 64}, {"head_digest": "d" * 64}, {"frame": 0}, {"frame": 1})
    ]
    changed += [(FOUND, other, UIDS), (FOUND, source, ReportUids(b"\x08" * 32)), (FOUND, source, UIDS)]
    uids = [build_report(statement, image, FINDINGS, key).SOPInstanceUID for statement, image, key in changed]
    assert len(set(uids)) == len(uids)
    assert build_report(FOUND, source, FINDINGS, UIDS).SOPInstanceUID == uids[-1]
    assert all(pydicom.uid.UID(uid).is_valid and len(uid) <= 64 for uid in uids)


@given(st.lists(st.text(max_size=8), max_size=4), st.lists(st.text(max_size=8), max_size=4))
def test_different_lists_of_parts_get_different_uids(one: list[str], other: list[str]) -> None:
    assert (UIDS.derive("x", *one) == UIDS.derive("x", *other)) == (one == other)


def test_image_with_invalid_and_missing_attributes_still_gets_valid_report(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = pydicom.dcmread(packaged("CT_small.dcm"))
        image.StudyDate = "last Tuesday"
        image.PatientSex = "unknown to us"
        image.AccessionNumber = "x" * 40
        image.PatientName = "山田^太郎=" + "y" * 10
        image.SpecificCharacterSet = "ISO_IR 192"
        image.StudyDescription = "z" * 100
        del image.PatientID, image.StudyTime, image.ReferringPhysicianName
    source = reduce_source(image)
    paths = write_reports(tmp_path, build_reports(("sr", "pdf"), FOUND, source, FINDINGS, UIDS))
    assert [errors_of(path) for path in paths] == [[], []]
    written = pydicom.dcmread(paths[0])
    assert (written.StudyDate, written.PatientSex, written.AccessionNumber) == ("", "", "")
    assert written.PatientName == image.PatientName


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, "../../etc/passwd", "1." * 40 + "1"])
def test_image_without_valid_uid_is_refused(keyword: str, value: str | None) -> None:
    image = pydicom.dcmread(packaged("CT_small.dcm"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setattr(image, keyword, value)
        with pytest.raises(ReportError, match=keyword):
            reduce_source(image)


def test_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (report,) = write_reports(tmp_path, [build_report(FOUND, read_source(packaged("CT_small.dcm")), FINDINGS, UIDS)])
    text = tmp_path / "readme.dcm"
    text.write_text("not DICOM")
    for path in (report, text):
        with pytest.raises(ReportError, match="No report"):
            read_source(path)


@pytest.mark.parametrize(
    ("findings", "named"),
    [
        ({"codes": {"cat": {"value": "1", "scheme": "SCT", "meaning": "Cat"}}}, "cat"),
        ({"codes": {"normal": {"value": "1", "scheme": "XYZ", "meaning": "Normal"}}}, "XYZ"),
        ({"codes": {"normal": {"value": "1" * 17, "scheme": "SCT", "meaning": "Normal"}}}, "too long"),
        ({"codes": {"normal": {"value": "1", "scheme": "SCT"}}}, "lacks"),
        ({"codes": []}, "not an object"),
        ({"scheme": {"designator": "HOSP"}}, "begins with 99"),
        ({"scheme": {"owner": "x"}}, "owner"),
        ([], "not an object"),
    ],
)
def test_wrong_findings_table_is_refused(findings: object, named: str) -> None:
    with pytest.raises(ReportError, match=named):
        read_findings({"findings": findings}, ["normal", "pneumonia"])


def test_statement_without_result_or_with_impossible_probability_is_refused() -> None:
    about = {"model": "m", "publisher": "", "head_digest": "", "plan": ""}
    for wrong in ({}, {"label": "a"}, {"label": "a", "refusal": "b"}, {"label": "a", "probability": 1.2}):
        with pytest.raises(ReportError):
            Statement(**about, **wrong)  # type: ignore[arg-type] - a table of wrong arguments


def test_operating_point_of_other_class_is_reported_with_that_class() -> None:
    statement = Statement(**{**FOUND.__dict__, "label": "normal", "probability": 0.8, "positive": "pneumonia"})
    assert statement.decided_percent == 20.0
    assert "gives 'pneumonia' from 37 percent on" in comment(statement)
    assert "operating point=0.37 of 'pneumonia'" in statement.parameters


def test_receipt_digest_does_not_depend_on_order_of_members() -> None:
    assert digest_receipt({"a": 1, "b": "c"}) == digest_receipt({"b": "c", "a": 1})
    assert digest_receipt({"a": 1, "b": "c"}) != digest_receipt({"a": 1, "b": "d"})


def test_report_is_stored_as_file_that_reads_back_equal() -> None:
    report = build_report(FOUND, read_source(packaged("US1_UNCR.dcm")), FINDINGS, UIDS)
    again = pydicom.dcmread(BytesIO(to_bytes(report)))
    assert again.SOPInstanceUID == report.SOPInstanceUID
    assert len(items(again)) == len(items(report))


@pytest.mark.parametrize("text", ["", "docx", "sr,xml", ","])
def test_unknown_report_kind_is_refused(text: str) -> None:
    with pytest.raises(ReportError):
        parse_kinds(text)


def test_report_kinds_are_read_in_order_without_repeats() -> None:
    assert parse_kinds(" PDF,sr,pdf ") == ("pdf", "sr")
