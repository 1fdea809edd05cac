"""`he-infer classify`: classifies images through a running server, which sees none of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.client.archive_options import ArchiveCa, ArchiveCredentials, ArchiveInsecureHttp
from he_infer.commands.client.connection_options import (
    DEFAULT_URL,
    AcceptNewServerKey,
    CaFile,
    ClientCert,
    InsecureHttp,
    ModelFile,
    TokenFile,
    Url,
)
from he_infer.commands.client.report_options import ReportKinds, ToArchive, ToFolder, read_report_options
from he_infer.commands.client.unlock_option import get_unlock
from he_infer.commands.json_option import JsonFile
from he_infer.commands.number_options import require_finite
from he_infer.commands.passphrase_option import PassphraseFile

if TYPE_CHECKING:
    from he_infer.client.images.reader import Frames
    from he_infer.client.results import Result, RunReport

SOME_NOT_CLASSIFIED = 3
"""Exit code if some images were not classified."""


def classify(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="DICOM, PNG or JPEG files, or folders.")],
    *,
    bundle_file: ModelFile,
    key_file: Annotated[Path, typer.Option("--key", help="Secret key file, from 'he-infer keys new'.")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    insecure_http: InsecureHttp = False,
    accept_new_server_key: AcceptNewServerKey = False,
    passphrase_file: PassphraseFile = None,
    canary_rate: Annotated[
        float | None,
        typer.Option(
            "--canaries",
            min=0,
            max=10,
            callback=require_finite,
            metavar="RATE",
            help="Test questions with known answers for each image (0.1: one for ten images); 0 turns them off.",
            show_default="one in the first request",
        ),
    ] = None,
    even_if_unlike: Annotated[
        bool,
        typer.Option(
            "--even-if-unlike", help="Also classify images that are unlike the model's training images, with a note."
        ),
    ] = False,
    frames: Annotated[
        str, typer.Option(help="Frames to take from a multi-frame file: 'middle', 'all', or a number from 0.")
    ] = "middle",
    receipt_file: Annotated[
        Path | None, typer.Option("--receipts", help="Append the server's signed receipts here (JSON Lines).")
    ] = None,
    json_file: JsonFile = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", dir_okay=False, help="Write a CSV file here, one row for each image.")
    ] = None,
    lines_file: Annotated[
        Path | None,
        typer.Option("--jsonl", dir_okay=False, help="Write a JSON Lines file here, one object for each image."),
    ] = None,
    report_kinds: ReportKinds = None,
    to: ToFolder = None,
    to_archive: ToArchive = None,
    archive_credentials: ArchiveCredentials = None,
    archive_ca: ArchiveCa = None,
    archive_insecure_http: ArchiveInsecureHttp = False,
) -> None:
    """Classify images with a server that sees no image, feature or score.

    A test question with a known answer is part of the first request, so that a wrong key file, key set or head is found
    before a result is shown. The output is a class and probabilities of at most three digits; no option outputs
    decrypted scores.

    Exit code 0: every image has a class, and its reports if requested. 3: some images have none, and a line says why.
    1: no result can be trusted, or the command failed.

    Example: `he-infer classify scans/ --bundle chest.client.hebundle --key hospital.key --csv results.csv`
    """
    from he_infer.client.client import Client
    from he_infer.client.verify import receipts as receipt_file_format
    from he_infer.commands.client.result_files import write_csv, write_lines, write_report
    from he_infer.commands.client.token_option import get_token
    from he_infer.errors import WrongAnswer
    from he_infer.files import expect_writable
    from he_infer.terminal import clean, make_console, show_progress

    appended = receipt_file is not None and receipt_file.exists()
    expect_writable(json_file, csv_file, lines_file, None if appended else receipt_file)
    console = make_console()
    kinds, destination = read_report_options(
        report_kinds, to, to_archive, archive_credentials, archive_ca, archive_insecure_http
    )
    token = get_token(token_file)
    unreported: list[str] = []
    with Client(
        url,
        model=bundle_file,
        key=key_file,
        passphrase=get_unlock(key_file, passphrase_file),
        token=token,
        ca_file=ca_file,
        client_cert=client_cert,
        insecure_http=insecure_http,
        accept_new_server_key=accept_new_server_key,
        canaries=canary_rate,
        frames=_parse_frames(frames),
        even_if_unlike=even_if_unlike,
    ) as client:
        if client.model.whole:
            console.print(
                "note: this is a whole bundle: its head lies on this machine, so the scores could be computed here "
                "without the server. Hospitals get the client's part, from 'he-infer publish'."
            )
        with show_progress("Classifying") as progress:
            run = client.start(images, progress)
            try:
                results = list(run)
            except WrongAnswer as wrong:
                if receipt_file is not None:
                    receipt_file_format.append(receipt_file, wrong.receipts)
                raise
        if receipt_file is not None:
            receipt_file_format.append(receipt_file, [entry.to_json() for entry in run.report.receipts])
        _show(results, run.report, f"{client.model.name} at {url}")
        if destination is not None:
            from he_infer.client.pacs.results import store_reports

            stored, unreported = store_reports(results, client.model, client.keys, kinds, destination)
            console.print(f"Reports of {stored} images stored in {to or to_archive}.")
            for problem in unreported:
                console.print(f"no report: {clean(problem)}")
    if json_file is not None:
        write_report(json_file, results, run.report, client.model.id)
    if csv_file is not None:
        write_csv(csv_file, results, client.model.classes)
    if lines_file is not None:
        write_lines(lines_file, results)
    if run.report.refused or unreported:
        raise typer.Exit(SOME_NOT_CLASSIFIED)


def _show(results: "list[Result]", report: "RunReport", title: str) -> None:
    """Print the results, the studies, and the costs."""
    from rich.table import Column

    from he_infer.client.results import Cause, summarise, summarise_folders
    from he_infer.client.verify.canaries import detection
    from he_infer.terminal import PlainTable, clean, make_console

    console = make_console()
    table = PlainTable(
        "image",
        "class",
        Column("probability", justify="right"),
        title=f"{title}: {report.classified} of {len(results)} images classified, encrypted",
    )
    for result in results:
        place = f"{result.path}" + (f" [{result.frame}]" if result.frame else "")
        if result.label is None:
            table.add_row(place, f"not classified: {result.refusal}", "-")
        else:
            table.add_row(place, result.label, f"{result.probability:.3f}")
    console.print(table)
    for result in results:
        for remark in result.remarks:
            console.print(f"note: {clean(result.path)}: {clean(remark)}")
    if any(result.cause is Cause.MODEL for result in results):
        console.print("note: --even-if-unlike also classifies images that are unlike the model's training images.")
    for kind, groups in (("study", summarise(results)), ("folder", summarise_folders(results))):
        if not groups:
            continue
        summary = PlainTable(kind, "accession", "images", "not classified", "classes", "highest probability")
        for group in groups:
            classes = ", ".join(f"{name} {count}" for name, count in group.labels.items()) or "-"
            highest = ", ".join(f"{name} {value:.3f}" for name, value in group.highest.items()) or "-"
            row = (group.study, group.accession or "-", group.images, group.refused, classes, highest)
            summary.add_row(*row)
        console.print(summary)
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in report.stages.items())
    console.print(
        f"{report.seconds:.2f} s in all (stages overlap, in s: {stages}); {report.requests} requests, "
        f"{report.bytes_up / 1e3:.0f} KB up, {report.bytes_down / 1e3:.0f} KB down."
    )
    if report.canaries:
        console.print(
            f"{report.canaries} test question{'s' * (report.canaries != 1)}, all answered correctly: a server that "
            "cheats on one answer in ten would have been detected with a probability of "
            f"{detection(0.1, report.canary_requests):.0%}."
        )


def _parse_frames(text: str) -> "Frames":
    from he_infer.errors import UsageError

    words: dict[str, Frames] = {"middle": "middle", "all": "all"}
    if text in words:
        return words[text]
    if text.isascii() and text.isdigit():
        return int(text)
    raise UsageError(f"--frames is {text!r}; expected 'middle', 'all' or the number of a frame, from 0.")
