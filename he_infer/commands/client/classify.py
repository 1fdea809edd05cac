"""`he-infer classify`: images to labels through a running server, which sees none of them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from he_infer.commands.client.connection_options import DEFAULT_URL, CaFile, ClientCert, TokenFile, Url
from he_infer.commands.client.unlock_option import get_unlock
from he_infer.commands.json_option import JsonFile
from he_infer.commands.passphrase_option import PassphraseFile

if TYPE_CHECKING:
    from he_infer.client.connection.session import Session
    from he_infer.client.served_model import ServedModel
    from models.bundle import Bundle


def classify(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="DICOM, PNG or JPEG files, or folders.")],
    *,
    bundle_file: Annotated[Path, typer.Option("--bundle", help="The bundle whose extractor makes the features.")],
    key_file: Annotated[Path, typer.Option("--key", help="Secret key file, from 'he-infer keys new'.")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    passphrase_file: PassphraseFile = None,
    share_scores: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="IMAGES",
            help="Give raw scores too, with so much noise that those of this many images may be shown to others in the "
            "whole life of the key.",
        ),
    ] = None,
    share_bits: Annotated[
        int, typer.Option(min=30, max=128, help="Statistical security of shared scores, in bits.")
    ] = 30,
    share_error: Annotated[
        float, typer.Option(min=0, help="Largest error of a shared score that is still of use; else nothing is sent.")
    ] = 0.05,
    canary_rate: Annotated[
        float,
        typer.Option(
            "--canaries", metavar="RATE", help="Questions with known answers to mix in, an image; 0.1 is one in ten."
        ),
    ] = 0.0,
    receipt_file: Annotated[
        Path | None, typer.Option("--receipts", help="Append the server's signed receipts here (JSON Lines).")
    ] = None,
    server_key: Annotated[
        str | None, typer.Option(help="The server's public key, hex: answers signed with another are refused.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Classify images with a server that sees neither image, feature nor score.

    Probabilities come from scores rounded to the plan's precision; raw scores are given with `--share-scores` alone.

    With `--canaries`, questions whose answers the bundle's own head gives go along unmarked; a server that answers one
    of them wrongly is found out, and no score is given. The last line says how likely that is.

    Example: `he-infer classify scans/ --bundle chest.hebundle --key hospital.key --canaries 0.1`
    """
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from he_infer.client.classifier import EncryptedClassifier
    from he_infer.client.connection.session import Session
    from he_infer.client.keys.key_file import KeyFile
    from he_infer.client.release.noise import Flooding
    from he_infer.client.release.sharing_budget import count
    from he_infer.client.verify import receipts as receipt
    from he_infer.client.verify.canaries import canaries_like, wanted
    from he_infer.commands.client.token_option import get_token
    from he_infer.errors import WrongAnswer
    from he_infer.files import write_json
    from models.bundle import Bundle
    from models.images.load import load_image

    console = Console()
    bundle = Bundle.load(bundle_file)
    files = find_images(images)
    loaded = [
        load_image(path)
        for path in track(files, "Reading images", console=console, transient=True, disable=not console.is_terminal)
    ]
    features = bundle.features(loaded)
    token = get_token(token_file)
    keys = KeyFile.load(key_file, get_unlock(key_file, passphrase_file))
    flooding = None
    if share_scores is not None:
        # Before anything is sent: a refusal must not cost queries.
        flooding = Flooding(keys.plans[0].precision, len(bundle.classes), share_scores, share_bits)
        flooding.check(share_error)
        count(key_file, len(files), share_scores)
    hidden = wanted(len(files), canary_rate)
    with Session(
        url, token, ca_file=ca_file, client_cert=client_cert, server_key=server_key or keys.server_key
    ) as session:
        model = _served(session, bundle)
        classifier = EncryptedClassifier(session, model, keys.plans[0], keys.secret_key(keys.plans[0]), keys.key_set)
        canaries = canaries_like(features, bundle.head, hidden, model.input_bound) if hidden else None
        started = time.perf_counter()
        try:
            scores = classifier.scores(features, canaries=canaries)
        except WrongAnswer as wrong:
            if receipt_file is not None:
                receipt.append(receipt_file, wrong.receipts)
            raise
        seconds = time.perf_counter() - started
    receipts = [entry.to_json() for entry in scores.receipts]
    if receipt_file is not None:
        receipt.append(receipt_file, receipts)
    # What is shown beside flooded scores must not be better known than they are.
    leaving = scores.rounded if flooding is None else scores.shared(flooding)
    labels, probabilities = leaving.argmax(axis=1), bundle.probabilities(leaving)

    table = Table(title=f"{bundle.name} at {url}, {len(files)} images, encrypted")
    for heading, justify in (("image", "left"), ("class", "left"), ("probability", "right"), ("server ms", "right")):
        table.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    rows = []
    per_image = [scores.requests[number] for number in scores.request_of]
    table_rows = zip(files, labels, probabilities, leaving, per_image, scores.request_of, strict=True)
    for path, label, row, given, request, number in table_rows:
        server_ms = 1e3 * request.server_seconds / request.images
        table.add_row(str(path), bundle.classes[label], f"{row[label]:.3f}", f"{server_ms:.1f}")
        rows.append(
            {
                "image": str(path),
                "class": bundle.classes[label],
                "probability": round(float(row[label]), 4),
                "server_ms": round(server_ms, 3),
                "receipt": number,
                **({} if flooding is None else {"scores": given.tolist()}),
            }
        )
    console.print(table)
    up, down = sum(request.bytes_up for request in scores.requests), sum(r.bytes_down for r in scores.requests)
    console.print(f"{seconds:.2f} s in all; {up / 1e3:.0f} KB up, {down / 1e3:.0f} KB down.", highlight=False)
    report = scores.canaries
    if report is not None:
        console.print(
            f"{report.sent} canaries, all answered rightly: a server that cheats on one answer in ten would have been "
            f"found out with a chance of {report.chance(0.1):.0%}.",
            highlight=False,
        )
    if flooding is not None:
        console.print(
            f"Scores carry noise of standard deviation {flooding.deviation:.2g}: {share_bits} bits of statistical "
            f"security for {share_scores} images under this key.",
            highlight=False,
        )
    if json_file is not None:
        figures: dict[str, object] = {"model": model.id, "images": rows, "seconds": round(seconds, 4)}
        figures |= {"bytes_up": up, "bytes_down": down, "receipts": receipts, "canaries": None}
        if report is not None:
            figures["canaries"] = {"sent": report.sent, "requests": report.requests, "wrong": report.wrong}
        if flooding is not None:
            about = {"bits": share_bits, "images": share_scores, "deviation": flooding.deviation}
            figures["flooding"] = {**about, "advantage": flooding.advantage}
        write_json(json_file, figures)


def find_images(given: Sequence[Path]) -> list[Path]:
    """The image files named, and those below the folders named, in a stable order.

    Raises:
        ImageError: a path does not exist, or a folder holds no file.
    """
    from he_infer.errors import ImageError

    files: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(entry for entry in path.rglob("*") if entry.is_file() and not entry.name.startswith("."))
            if not inside:
                raise ImageError(f"The folder {path} holds no file. Expected DICOM, PNG or JPEG images.")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise ImageError(f"There is no file or folder {path}. Expected a DICOM, PNG or JPEG image.")
    return files


def _served(session: "Session", bundle: "Bundle") -> "ServedModel":
    """The served model whose head is the bundle's own.

    Raises:
        UsageError: the server offers no model with this head.
    """
    from he_infer.errors import UsageError

    digest = bundle.head.digest
    offered = session.models()
    for model in offered:
        if model.head_digest == digest:
            return model
    names = ", ".join(model.id for model in offered) or "none"
    raise UsageError(
        f"The server offers no model with the head of '{bundle.name}'; it serves: {names}. Use the bundle that the "
        "server serves, or have the server serve this one."
    )
