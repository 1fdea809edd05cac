"""Turns results of the public `Client` into reports, with the keys and codes that reports need."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from he_infer.client.client import Client
from he_infer.client.keys.key_file import KeyFile
from he_infer.client.model import ClientModel
from he_infer.client.pacs.reports.findings import Findings, read_findings
from he_infer.client.pacs.reports.kinds import build_reports
from he_infer.client.pacs.reports.source import read_source
from he_infer.client.pacs.reports.statement import Statement, digest_receipt
from he_infer.client.pacs.reports.uids import ReportUids
from he_infer.client.pacs.watch.destinations import Destination
from he_infer.client.pacs.watch.watcher import Outcome
from he_infer.client.results import Cause, Result
from he_infer.errors import ArchiveRefused, ReportError, ServerUnreachable

PURPOSE = "report UIDs"
"""HKDF purpose of the UIDs' secret, derived from the key file's seed. Rotation does not change it."""
DIGITS = 3
"""Maximum number of decimal places of a client's probability."""


@dataclass(frozen=True)
class ReportMaker:
    """Findings and UIDs that all reports of one model and one key file share."""

    findings: Findings
    uids: ReportUids

    @staticmethod
    def of(model: ClientModel, keys: KeyFile) -> "ReportMaker":
        """Make it from the codes in the model card and the UIDs of the key file.

        Raises:
            ReportError: the card's table of findings is wrong.
        """
        card = model.file.description.get("card")
        findings = read_findings(card if isinstance(card, dict) else {}, model.classes)
        return ReportMaker(findings, ReportUids(keys.derive(PURPOSE)))


def state_result(result: Result, source: Dataset, model: ClientModel) -> Statement:
    """Make a report's statement from a result.

    Args:
        result: classified, or refused by the model.
        source: the image's identity.
        model: the model that was asked.
    """
    frames = int(source.get("NumberOfFrames") or 1)
    return Statement(
        model=result.model,
        publisher=result.publisher or "",
        head_digest=model.head_digest,
        plan=result.plan or "",
        label=result.label,
        probability=result.probability,
        refusal=result.refusal.replace(str(result.path), "the image") if result.refusal else None,
        frame=result.frame if frames > 1 else None,
        threshold=result.threshold,
        positive=result.positive or "",
        digits=DIGITS,
        receipt_digest=digest_receipt(result.receipt.signed()) if result.receipt else "",
    )


def classify_with(client: Client) -> Callable[[Sequence[Path]], Iterable[Outcome]]:
    """Make the watcher's function that classifies through the public client."""

    def classify(paths: Sequence[Path]) -> Iterable[Outcome]:
        # Read the whole run first: an untrustworthy answer ends it and withdraws the earlier results.
        for result in client.classify(paths):
            if result.cause is Cause.SERVER:
                raise ServerUnreachable(result.refusal or "The server does not answer.")
            if result.cause is Cause.FILE:
                yield Outcome(result.path, None, result.refusal or "")
                continue
            try:
                statement = state_result(result, read_source(result.path), client.model)
            except ReportError as error:
                yield Outcome(result.path, None, str(error))
                continue
            yield Outcome(result.path, statement)

    return classify


def store_reports(
    results: Iterable[Result], model: ClientModel, keys: KeyFile, kinds: Sequence[str], destination: Destination
) -> tuple[int, list[str]]:
    """Make and store a report for every result that allows one.

    Returns:
        Number of images whose reports are stored, and a line for each image that was classified or refused by the model
        but has no report, such as a PNG file, which names no study.

    Raises:
        ArchiveUnreachable: the archive does not answer. Stored reports stay, and storing them again makes no
            duplicates.
        OSError, StorageProblem: a file cannot be written.
    """
    maker, stored, problems = ReportMaker.of(model, keys), 0, []
    for result in results:
        if result.cause in (Cause.FILE, Cause.SERVER):
            continue
        try:
            source = read_source(result.path)
            statement = state_result(result, source, model)
            destination.store(build_reports(kinds, statement, source, maker.findings, maker.uids))
            stored += 1
        except (ReportError, ArchiveRefused) as error:
            problems.append(" ".join(str(error).split()))
    return stored, problems
