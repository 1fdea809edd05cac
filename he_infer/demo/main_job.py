"""The main job, end to end: train, publish in two parts, store, classify encrypted, audit, report.

Three roles have a folder each: `owner/` has the whole model, `cloud/` the part with the head and all that the server
stores, receives and sends, `hospital/` the part without the head and the results. Nothing is simulated: the steps call
the same functions as the commands do, and the server is a process of its own.
"""

import csv
import io
import platform
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from rich.console import Console

from cipher.algorithm.inner import encrypt_image
from cipher.keys.vault_key import VaultKey
from he_infer import __version__
from he_infer.ckks.planning.plan import Plan
from he_infer.client.client import Client
from he_infer.client.images.array import ArrayImage
from he_infer.client.key_making import make_key_file
from he_infer.client.model import ClientModel
from he_infer.client.release.rounding import to_probabilities
from he_infer.client.results import Result, RunReport
from he_infer.demo import pictures
from he_infer.demo import storing as vault
from he_infer.demo.audit import audit_hospital, audit_server
from he_infer.demo.curves import draw_curves
from he_infer.demo.figures import Figures
from he_infer.demo.options import DemoOptions
from he_infer.demo.path_picture import draw_path
from he_infer.demo.picture_level import PictureResult, count_right, sum_by_group
from he_infer.demo.preparing import prepare_engines
from he_infer.demo.progress import Step, Steps
from he_infer.demo.report import Report, ReportLine, write_report
from he_infer.demo.training import find_input_side, train_model
from he_infer.demo.unlike import UnlikeImage, judge_unlike_images
from he_infer.errors import UsageError
from he_infer.files import PRIVATE, write_text
from he_infer.head.bundle_file import BundleFile
from he_infer.local_server import LocalServer
from he_infer.owner.publish import Published, publish
from models import datasets
from models.bundle import Bundle
from models.card import decide, read_operating_point
from models.datasets import Dataset
from models.metrics import compute_majority_share

MARK = "he-infer-demo"
"""A file of this name marks a folder as one that a demo made, and that the next demo may empty."""


@dataclass(frozen=True)
class DemoResult:
    """Results of a run."""

    figures: Figures
    report: Path
    dataset: Dataset


@dataclass(frozen=True)
class _Encrypted:
    """The test images classified by the hospital, and in clear for comparison."""

    clear_scores: NDArray[np.float64]
    """(n, classes)"""
    clear: NDArray[np.float64]
    """(n, classes) probabilities in clear, rounded as the client rounds its own."""
    opened: NDArray[np.float64]
    """(n, classes) probabilities that the client gives."""
    clear_labels: NDArray[np.int64]
    opened_labels: NDArray[np.int64]
    results: list[Result]
    report: RunReport
    evaluation_key_bytes: int
    features: NDArray[np.float32]
    plan: Plan
    sent: bytes
    """Ciphertexts of the first request."""
    refused: int | None
    """Test images that the guard finds unlike the training images; None where the model has no guard."""
    unlike: list[UnlikeImage]


def run_demo(options: DemoOptions, console: Console) -> DemoResult:
    """Run the whole job and show its progress.

    Raises:
        UsageError: the output folder holds something that no demo made.
        ModelsError, CipherError, HeInferError: see the steps; their texts are fit for a user.
    """
    _prepare(options.out)
    owner, cloud, hospital = (options.out / name for name in ("owner", "cloud", "hospital"))
    for folder in (owner, cloud, hospital):
        folder.mkdir()
    steps = Steps(console, 7)
    with prepare_engines():
        dataset = _read(options, steps)
        with steps.step("Owner: train the model") as step:
            bundle = train_model(dataset, options, step)
            bundle.save(owner / "model.hebundle")
        with steps.step("Owner: publish in two parts") as step:
            published = publish(BundleFile.load(owner / "model.hebundle"), Ed25519PrivateKey.generate(), batches=[16])
            published.client.save(hospital / "model.client.hebundle")
            published.server.save(cloud / "model.server.hebundle")
            step.result = "the head for the cloud alone, the extractor for the hospital alone, both signed"
        with steps.step("Hospital: store images sealed") as step:
            stored = _store(dataset, cloud / "vault", step)
            step.result = (
                f"{stored.objects} images, {stored.plain_bytes / 1e6:.1f} MB, back bit for bit; "
                f"{stored.mb_per_s:.0f} MB/s"
            )
        with steps.step("Hospital: classify encrypted") as step:
            encrypted = _classify(bundle, cloud, hospital, dataset, options, step)
    with steps.step("Search the server's data") as step:
        audit = audit_server(
            cloud,
            dataset,
            encrypted.features,
            encrypted.clear_scores,
            seed=options.seed,
            progress=step.update,
        )
        (there, real), (dug_up, planted) = audit.control, audit.plants
        step.result = (
            f"{audit.found} of {audit.pieces} plaintext pieces found in {audit.objects} objects (control: {there} of "
            f"{real} in the originals, {dug_up} of {planted} planted)"
        )
        head_audit = audit_hospital(hospital, cloud / "model.server.hebundle", published.server.tensors)
    with steps.step("Write the report") as step:
        labels = dataset.test.labels[: len(encrypted.clear)]
        whole = {
            name: _sum_probabilities(groups.get("test"), labels, encrypted)
            for name, groups in (("pictures", dataset.pictures), ("patients", dataset.people))
        }
        figures = _figures(dataset, published, labels, encrypted, stored, whole)
        report = options.out / "report.html"
        confusions = [
            _confusion(labels, predicted, len(dataset.classes))
            for predicted in (encrypted.clear_labels, encrypted.opened_labels)
        ]
        write_report(
            Report(
                figures=figures,
                made=time.strftime("Made on %Y-%m-%d"),
                notes=dataset.notes,
                method=_method(dataset, bundle, encrypted, options),
                picture_cipher=_cipher_picture(dataset),
                picture_confusion=pictures.draw_confusion_matrices(confusions[0], confusions[1], dataset.classes),
                picture_path=_path_picture(dataset, bundle, encrypted),
                picture_curves=draw_curves(
                    labels, encrypted.opened, dataset.classes, read_operating_point(bundle.card, dataset.classes)
                ),
                audit=audit,
                head_audit=head_audit,
                unlike=encrypted.unlike,
                picture_whole=None
                if whole["pictures"] is None
                else pictures.draw_picture_results(dataset.test.images, whole["pictures"], dataset.classes),
            ),
            report,
        )
        step.result = str(report)
    return DemoResult(figures, report, dataset)


def _prepare(out: Path) -> None:
    """Make the output folder, or empty one that an earlier demo made; nothing else is ever deleted."""
    if out.exists():
        if not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file()):
            raise UsageError(
                f"{out} exists and was not made by a demo, so nothing in it is touched. Name another folder with --out."
            )
        for entry in out.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text("Made by 'he-infer demo'; the next demo empties this folder.\n", encoding="utf-8")


def _read(options: DemoOptions, steps: Steps) -> Dataset:
    with steps.step("Read real images") as step:
        dataset = datasets.load(options.data, size=find_input_side(options))
        step.result = (
            f"{dataset.name}: {len(dataset.train)} training, {len(dataset.val)} validation, {len(dataset.test)} test "
            f"images of {dataset.size[0]}x{dataset.size[1]}, {len(dataset.classes)} classes"
        )
    for note in dataset.notes:
        steps.remark(note, "yellow")
    return dataset


def _store(dataset: Dataset, folder: Path, step: Step) -> vault.StoredImages:
    """Seal the set's original files where it has any, else its test images; the key stays in this process."""
    key = VaultKey.generate()
    files = sorted({path for paths in dataset.sources.values() for path in paths})
    vault.warm_up(key)
    if files:
        return vault.seal_files(files, folder, key, step.update)
    return vault.seal_arrays(dataset.test.images, folder, key, step.update)


def _classify(
    bundle: Bundle, cloud: Path, hospital: Path, dataset: Dataset, options: DemoOptions, step: Step
) -> _Encrypted:
    test = dataset.test if options.limit is None else dataset.test.first(options.limit)
    model = ClientModel.load(hospital / "model.client.hebundle")
    key, passphrase = hospital / "hospital.key", secrets.token_urlsafe(16)
    sent: list[bytes] = []
    with LocalServer([cloud / "model.server.hebundle"], cloud / "data", record_dir=cloud / "wire") as local:
        made = make_key_file(key, passphrase, server_url=local.url, model=model.path, token=local.token)
        key_bytes = made.registered_bytes
        with Client(
            local.url, model=model.path, key=key, passphrase=passphrase, token=local.token, even_if_unlike=True
        ) as client:
            images = [ArrayImage(f"test image {number}", pixels) for number, pixels in enumerate(test.images)]
            run = client.start(images, step.update, on_sent=lambda parts: sent.append(b"".join(parts)))
            results = list(run)
        ready = local.ready_seconds
    unsent = next((result for result in results if not result.classified), None)
    if unsent is not None:  # the data set was checked, and the guard only remarks here
        raise UsageError(f"An image was not classified: {unsent.refusal}")
    features = model.feature_model.features(test.images)
    clear_scores = bundle.scores(features)
    clear = to_probabilities(clear_scores, run.plan.precision)
    opened = np.array([[result.probabilities[name] for name in dataset.classes] for result in results])
    _write_results(hospital / "results.csv", test.labels, results, dataset.classes)
    step.result = f"{len(results)} images; server process ready in {ready:.1f} s, keys {key_bytes / 1e6:.1f} MB"
    guard = model.feature_model.guard
    return _Encrypted(
        clear_scores=clear_scores,
        clear=clear,
        opened=opened,
        clear_labels=decide(bundle.card, dataset.classes, clear),
        opened_labels=np.array([dataset.classes.index(str(result.label)) for result in results]),
        results=results,
        report=run.report,
        evaluation_key_bytes=key_bytes,
        features=features,
        plan=run.plan,
        sent=sent[0],
        refused=None if guard is None else sum(not one.accepted for one in model.feature_model.judge(features)),
        unlike=[] if guard is None else judge_unlike_images(model.feature_model, test.images, options.seed),
    )


def _write_results(path: Path, truth: NDArray[np.int64], results: Sequence[Result], classes: Sequence[str]) -> None:
    """Write the hospital's results: for each test image its class, its true class, and the classes' probabilities."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["image", "class", "true class", *(f"probability {name}" for name in classes)])
    for number, (result, true) in enumerate(zip(results, truth, strict=True)):
        rows.writerow([number, result.label, classes[true], *(result.probabilities[name] for name in classes)])
    write_text(path, text.getvalue(), mode=PRIVATE)


def _sum_probabilities(
    groups: NDArray[np.int64] | None, labels: NDArray[np.int64], encrypted: _Encrypted
) -> list[PictureResult] | None:
    """Results by picture or patient; None where a set does not state the picture of each patch."""
    if groups is None:
        return None
    return sum_by_group(groups[: len(labels)], labels, encrypted.clear, encrypted.opened)


def _figures(
    dataset: Dataset,
    published: Published,
    labels: NDArray[np.int64],
    encrypted: _Encrypted,
    stored: vault.StoredImages,
    whole: Mapping[str, list[PictureResult] | None],
) -> Figures:
    clear, opened, report = encrypted.clear_labels, encrypted.opened_labels, encrypted.report
    shown, people = whole["pictures"], whole["patients"]
    return Figures(
        dataset=dataset.name,
        classes=list(dataset.classes),
        n_test=len(labels),
        clear_accuracy=float((clear == labels).mean()),
        encrypted_accuracy=float((opened == labels).mean()),
        majority_share=compute_majority_share(labels),
        label_agreement=float((clear == opened).mean()),
        max_probability_difference=round(float(np.abs(encrypted.opened - encrypted.clear).max()), 6),
        max_abs_error=max(published.trial_errors),
        pictures=None if shown is None else len(shown),
        pictures_right_clear=None if shown is None else count_right(shown, encrypted=False),
        pictures_right_encrypted=None if shown is None else count_right(shown, encrypted=True),
        patients=None if people is None else len(people),
        patients_right_encrypted=None if people is None else count_right(people, encrypted=True),
        guard_refused=encrypted.refused,
        batch=encrypted.plan.batch,
        server_ms_median=1e3 * float(np.median(report.server_seconds)),
        bytes_up=report.bytes_up // report.requests,
        bytes_down=report.bytes_down // report.requests,
        evaluation_key_bytes=encrypted.evaluation_key_bytes,
        cipher_mb_per_s=stored.mb_per_s,
    )


def _confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def _cipher_picture(dataset: Dataset) -> bytes:
    """The inner cipher's image of an original image, or of a test image where there are no files."""
    image, title = vault.choose_image(dataset)
    cipher_image = encrypt_image(image, secrets.token_bytes(32), secrets.token_bytes(16))
    return pictures.draw_cipher_image(image, cipher_image, title)


def _path_picture(dataset: Dataset, bundle: Bundle, encrypted: _Encrypted) -> bytes:
    """A test image on its way: at the client, as the extractor sees it, its features, at the server, and the result."""
    middle = len(encrypted.results) // 2
    seen = bundle.preprocessing.apply(dataset.test.images[middle][None])[0]
    return draw_path(
        dataset.test.images[middle], seen, encrypted.features[middle], encrypted.sent, encrypted.opened[middle],
        dataset.classes,
    )  # fmt: skip


def _method(dataset: Dataset, bundle: Bundle, encrypted: _Encrypted, options: DemoOptions) -> Sequence[ReportLine]:
    parameters = encrypted.plan.parameters
    layers = " → ".join(str(layer) for layer in bundle.head.layers)
    return [
        ReportLine("Data set", f"{dataset.name}, digest {dataset.digest[:16]}…, seed {options.seed}"),
        ReportLine("Extractor", f"{options.chosen_extractor} at the client, {bundle.head.width} features"),
        ReportLine("Head at the server", layers),
        ReportLine("Policy", bundle.policy),
        ReportLine("CKKS", str(parameters)),
        ReportLine("Plan", f"{encrypted.plan.digest[:16]}…, batch {encrypted.plan.batch}"),
        ReportLine("Versions", f"he-infer {__version__}, Python {platform.python_version()}, {platform.machine()}"),
    ]
