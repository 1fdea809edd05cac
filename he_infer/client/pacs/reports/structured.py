"""A result as a Structured Report: Comprehensive 3D SR with TID 1500 content (PS3.16), through highdicom.

The image is referenced by the measurement group's source, not by an image library: the library's descriptors do not
fit every radiograph. The document is complete and unverified: a program made it, and no person has verified it.
"""

import warnings
from collections.abc import Mapping
from io import BytesIO

from highdicom import ContributingEquipment
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from he_infer import __version__
from he_infer.client.pacs.reports.findings import PRIVATE, Findings, Scheme
from he_infer.client.pacs.reports.statement import NOT_A_DIAGNOSIS, Statement
from he_infer.client.pacs.reports.uids import ReportUids
from he_infer.errors import ReportError

PROGRAM = "he_infer"
SERIES_NUMBER = 8001
_LARGEST_NUMBER = 2**31 - 1
_PROCEDURES: Mapping[str, tuple[str, str]] = {
    "CT": ("77477000", "Computed tomography"),
    "MR": ("113091000", "Magnetic resonance imaging"),
    "US": ("16310003", "Ultrasonography"),
    "CR": ("168537006", "Plain radiography"),
    "DX": ("168537006", "Plain radiography"),
    "MG": ("71651007", "Mammography"),
}
_ANY_PROCEDURE = ("363679005", "Imaging procedure")
_SUITABILITY = CodedConcept("SUITABILITY", PRIVATE, "Suitability of the image for the model")
_UNSUITABLE = CodedConcept("UNSUITABLE", PRIVATE, "Outside of what the model was made for")


def build_report(statement: Statement, source: Dataset, findings: Findings, uids: ReportUids) -> Dataset:
    """Make the Structured Report of one image.

    Args:
        statement: the result to report.
        source: the image's identity, from `source.read_source`.
        findings: the codes of the model's classes.
        uids: derives the report's UIDs.

    Returns:
        A Comprehensive 3D SR, complete with file meta information.

    Raises:
        ReportError: the label has no code, or the image's attributes do not allow a report.
    """
    # A refusal has no plan, and still belongs into the series of the model's other reports.
    series = (source.StudyInstanceUID, statement.model, statement.head_digest)
    key = (*series, statement.plan)
    image = (source.SOPInstanceUID, "" if statement.frame is None else str(statement.frame))
    try:
        with warnings.catch_warnings():
            # highdicom warns about names with one component; the archive's names are copied unchanged.
            warnings.simplefilter("ignore")
            report = Comprehensive3DSR(
                evidence=[source],
                content=_content(statement, source, findings, uids, image)[0],
                series_instance_uid=uids.derive("report series", *series),
                series_number=SERIES_NUMBER,
                sop_instance_uid=uids.derive("report", *key, *image),
                instance_number=instance_number(source),
                manufacturer=PROGRAM,
                is_complete=True,
                is_final=False,
                is_verified=False,
                series_description=f"{statement.model} (not a diagnosis)"[:64],
                manufacturer_model_name=PROGRAM,
                software_versions=__version__,
                device_serial_number=uids.derive("device")[-32:],
                specific_character_set="ISO_IR 192",
                coding_schemes=[identify_scheme(scheme) for scheme in _schemes(statement, findings)] or None,
                contributing_equipment=[
                    ContributingEquipment(
                        manufacturer=(statement.publisher or PROGRAM)[:64],
                        purpose_of_reference=codes.DCM.ProcessingEquipment,
                        manufacturer_model_name=statement.model[:64],
                        software_versions=(statement.head_digest or statement.plan)[:64],
                        contribution_description="Processing Algorithm",
                    )
                ],
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ReportError(
            f"No report can be made of the image {source.SOPInstanceUID}: its attributes do not allow it "
            f"({type(error).__name__})."
        ) from error
    return report


def to_bytes(dataset: Dataset) -> bytes:
    """A report as a DICOM file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def instance_number(source: Dataset) -> int:
    """The image's instance number, so that reports sort like their images; 1 if it has none."""
    try:
        number = int(source.get("InstanceNumber") or 1)
    except (ValueError, TypeError):
        return 1
    return number if 1 <= number <= _LARGEST_NUMBER else 1


def identify_scheme(scheme: Scheme) -> CodingSchemeIdentificationItem:
    """Make an item of the Coding Scheme Identification Sequence."""
    return CodingSchemeIdentificationItem(
        designator=scheme.designator,
        name=scheme.name,
        responsible_organization=scheme.responsible_organization,
        uid=scheme.uid or None,
        registry="HL7" if scheme.uid else None,
    )


def _schemes(statement: Statement, findings: Findings) -> list[Scheme]:
    """The private schemes that the report uses."""
    if statement.label is None:
        return [Scheme()]
    return [findings.scheme] if findings.code(statement.label).scheme == findings.scheme.designator else []


def _content(
    statement: Statement, source: Dataset, findings: Findings, uids: ReportUids, image: tuple[str, str]
) -> MeasurementReport:
    finding, measurements, evaluations = None, None, None
    if statement.label is None:
        evaluations = [QualitativeEvaluation(name=_SUITABILITY, value=_UNSUITABLE)]
    else:
        code = findings.code(statement.label)
        finding = CodedConcept(code.value, code.scheme, code.meaning)
        measurements = [Measurement(name=codes.DCM.Probability, value=statement.percent, unit=codes.UCUM.Percent)]
    algorithm = AlgorithmIdentification(
        name=statement.model,
        version=statement.head_digest[:16] or statement.plan[:16],
        parameters=list(statement.parameters),
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=statement.publisher or None,
    )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=uids.derive("tracking", *image), identifier=f"Image {instance_number(source)}"
        ),
        algorithm_id=algorithm,
        source_images=[
            SourceImageForMeasurementGroup(
                source.SOPClassUID,
                source.SOPInstanceUID,
                None if statement.frame is None else [statement.frame + 1],
            )
        ],
        finding_type=finding,
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )
    report = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device,
                observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                    uid=uids.derive("device"),
                    name=PROGRAM,
                    manufacturer_name=PROGRAM,
                    model_name=f"{PROGRAM} {__version__}",
                ),
            )
        ),
        procedure_reported=_procedure(source),
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.append(
        TextContentItem(
            name=codes.DCM.Comment, value=comment(statement), relationship_type=RelationshipTypeValues.CONTAINS
        )
    )
    return report


def comment(statement: Statement) -> str:
    """The result in words, for readers of the report."""
    if statement.refusal is not None:
        result = f"The image was not classified: {statement.refusal}"
    else:
        result = f"{statement.model} gives '{statement.label}' a probability of {statement.percent:g} percent."
        if statement.threshold is not None:
            result += f" It gives '{statement.decided}' from {100 * statement.threshold:g} percent on."
    return f"{result} {NOT_A_DIAGNOSIS}"


def _procedure(source: Dataset) -> CodedConcept:
    value, meaning = _PROCEDURES.get(str(source.get("Modality", "")), _ANY_PROCEDURE)
    return CodedConcept(value, "SCT", meaning)
