"""From the public `Client`'s results to what reports state, with the keys and codes that reports are made with."""

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
"""What the UIDs' secret is derived for from the key file's key-encryption key; rotation keeps it."""
DIGITS = 3
"""Most decimal places of a probability that a client gives."""


@dataclass(frozen=True)
class ReportMaker:
    """What all reports of one model and one key file share."""

    findings: Findings
    uids: ReportUids

    @staticmethod
    def of(model: ClientModel, keys: KeyFile) -> "ReportMaker":
        """The codes of the model's card and the UIDs of the key file's owner.

        Raises:
            ReportError: the card's table of findings is wrong.
        """
        card = model.file.description.get("card")
        findings = read_findings(card if isinstance(card, dict) else {}, model.classes)
        return ReportMaker(findings, ReportUids(keys.custody.derive(PURPOSE)))


def state_result(result: Result, source: Dataset, model: ClientModel) -> Statement:
    """What a report states of a result.

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
    """The watcher's way of classifying, through the public client."""

    def classify(paths: Sequence[Path]) -> Iterable[Outcome]:
        # As a whole: what ends a run as not to be trusted takes back the results before it.
        for result in client.classify(paths):
            if result.cause is Cause.SERVER:
                raise ServerUnreachable(result.refusal or "The server is away.")
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
    """Make and store the reports of all results that a report can be made of.

    Returns:
        The number of images whose reports are stored, and a line for each image that is classified or refused by the
        model and got none: a PNG file names no study, for instance.

    Raises:
        ArchiveUnreachable: the archive is away; what was stored stays, and storing it again does not double it.
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
