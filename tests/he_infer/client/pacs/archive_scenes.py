"""Tests with a real Orthanc; `test_archive_scenes.py` runs them in a separate network namespace."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from he_infer.client.pacs.archive.dicomweb import Archive
from he_infer.client.pacs.archive.orthanc import OrthancChanges
from he_infer.client.pacs.reports.findings import read_findings
from he_infer.client.pacs.reports.source import read_source
from he_infer.client.pacs.reports.statement import Statement
from he_infer.client.pacs.reports.structured import build_report
from he_infer.client.pacs.reports.uids import ReportUids
from he_infer.client.pacs.watch.choice import Choice
from he_infer.client.pacs.watch.destinations import ArchiveDestination
from he_infer.client.pacs.watch.journal import Journal, State
from he_infer.client.pacs.watch.sources import ArchiveSource
from he_infer.client.pacs.watch.watcher import Outcome, Settings, Watcher
from he_infer.errors import ArchiveRefused, ArchiveUnreachable
from models.errors import ModelsError
from models.images.load import load_image
from tests.cipher.dicom.orthanc_scene import bring_loopback_up
from tests.e2e.kit import WORDS
from tests.e2e.kit import images as shapes
from tests.he_infer.client.console.conftest import CHROMIUM, RunningConsole
from tests.he_infer.client.pacs.orthanc import Orthanc, answers, file_bytes, free_port, make_image
from tests.he_infer.client.pacs.test_listener import send
from tests.he_infer.client.scene import Scene, make_scene, share_model

FINDINGS = read_findings({}, ["dark", "bright"])
UIDS = ReportUids(bytes(32))
MODEL = "brightness-1"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    bring_loopback_up()
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


def classify(paths: Sequence[Path]) -> Iterator[Outcome]:
    """Classify by the first pixel, which shows whether each image got its own report."""
    for path in paths:
        try:
            load_image(path)
        except ModelsError as error:
            yield Outcome(path, None, str(error))
            continue
        value = int(pydicom.dcmread(path).pixel_array.flat[0])
        label = "bright" if value > 99 else "dark"
        about = {"model": MODEL, "publisher": "", "head_digest": "a" * 64, "plan": "b" * 64}
        if value == 13:
            yield Outcome(path, Statement(**about, refusal="It is unlike all."))
        else:
            yield Outcome(path, Statement(**about, label=label, probability=value / 1000))


def watcher(orthanc: Orthanc, folder: Path, journal: Journal, **changes: object) -> Watcher:
    archive = Archive(orthanc.url)
    settings = Settings(**{"quiet_seconds": 0.0, "choice": Choice(frozenset({"CT"})), **changes})  # type: ignore[arg-type] - a table of settings
    source = ArchiveSource(archive, sweep_seconds=0)
    return Watcher(source, ArchiveDestination(archive), classify, FINDINGS, UIDS, journal, folder, settings)


def sources_of(orthanc: Orthanc, study: str) -> list[str]:
    """UIDs of the images that a study's reports refer to."""
    found = []
    for report in orthanc.instances("SR"):
        if report.StudyInstanceUID == study:
            evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
            found.append(str(evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
    return sorted(found)


def test_report_stored_twice_is_one_object_in_archive(orthanc: Orthanc) -> None:
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    statement = Statement(model=MODEL, publisher="", head_digest="a", plan="b", label="dark", probability=0.2)
    with Archive(orthanc.url) as archive:
        for _ in range(2):
            archive.store([build_report(statement, read_source(Path(path)), FINDINGS, UIDS)])
    study = str(read_source(Path(path)).StudyInstanceUID)
    assert len(sources_of(orthanc, study)) == 1


def test_found_images_have_choice_attributes_and_are_fetched_unchanged(orthanc: Orthanc, tmp_path: Path) -> None:
    study, series = generate_uid(), generate_uid()
    sent = [make_image(study, series, brightness=value) for value in (1, 2)]
    orthanc.send(*sent)
    with Archive(orthanc.url) as archive:
        assert archive.count_images(study) == 2
        found = archive.images(study)
        assert {image.sop for image in found} == {str(image.SOPInstanceUID) for image in sent}
        assert {(image.modality, image.body_part) for image in found} == {("CT", "CHEST")}
        assert read_source(archive.fetch(found[0], tmp_path / "a.dcm")).SOPInstanceUID == found[0].sop
        assert archive.count_images(generate_uid()) == 0


def test_changes_name_stable_study_once_and_position_moves(orthanc: Orthanc) -> None:
    study = generate_uid()
    with Archive(orthanc.url) as archive:
        changes = OrthancChanges.find(archive)
        assert changes is not None
        begin = changes.since(0).position
        orthanc.send(make_image(study, generate_uid()))
        until = time.monotonic() + 20
        while study not in (found := changes.since(begin)).stable:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert found.position > begin
        assert study not in changes.since(found.position).stable
        assert study in changes.since(10**9).stable  # an Orthanc whose list began anew is read from its start


def test_growing_study_gets_a_report_for_each_image_and_none_is_replaced(orthanc: Orthanc, tmp_path: Path) -> None:
    study, series = generate_uid(), generate_uid()
    first = [make_image(study, series, brightness=value) for value in (10, 200)]
    orthanc.send(*first)
    with Journal(tmp_path, MODEL) as journal:
        watching = watcher(orthanc, tmp_path, journal)
        watching.run_once()
        assert sources_of(orthanc, study) == sorted(str(image.SOPInstanceUID) for image in first)
        before = {str(report.SOPInstanceUID): report for report in orthanc.instances("SR")}
        late = make_image(study, series, brightness=300)
        orthanc.send(late, *first)  # the first ones are sent a second time
        watching.run_once()
        watching.run_once()
        assert sources_of(orthanc, study) == sorted(str(image.SOPInstanceUID) for image in [*first, late])
        after = {str(report.SOPInstanceUID): report for report in orthanc.instances("SR")}
        assert all(after[uid].ContentTime == report.ContentTime for uid, report in before.items())
        assert journal.counts()["waiting"] == journal.counts()["failed"] == 0


def test_watcher_with_lost_journal_leaves_reports_as_they_are(orthanc: Orthanc, tmp_path: Path) -> None:
    study = generate_uid()
    orthanc.send(make_image(study, generate_uid(), brightness=10))
    for name in ("one", "two"):
        with Journal(tmp_path / name, MODEL) as journal:
            watcher(orthanc, tmp_path / name, journal).run_once()
    assert len(sources_of(orthanc, study)) == 1


def test_other_modality_is_ignored_and_refusal_is_reported_by_setting(orthanc: Orthanc, tmp_path: Path) -> None:
    study = generate_uid()
    refused = make_image(study, generate_uid(), brightness=13)
    orthanc.send(refused, make_image(study, generate_uid(), modality="MR"))
    with Journal(tmp_path / "none", MODEL) as journal:
        watcher(orthanc, tmp_path / "none", journal, report_refusals=False).run_once()
        assert sources_of(orthanc, study) == []
        assert journal.is_done(str(refused.SOPInstanceUID))
    with Journal(tmp_path / "report", MODEL) as journal:
        watcher(orthanc, tmp_path / "report", journal).run_once()
    assert sources_of(orthanc, study) == [str(refused.SOPInstanceUID)]


def test_image_without_pixels_is_tried_again_and_given_up_while_others_are_reported(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    study, series = generate_uid(), generate_uid()
    empty, good = make_image(study, series), make_image(study, series, brightness=50)
    del empty.PixelData
    orthanc.send(empty, good)
    clock = [1000.0]
    with Journal(tmp_path, MODEL) as journal:
        watching = watcher(orthanc, tmp_path, journal, most_attempts=3)
        watching._now = lambda: clock[0]
        for _ in range(4):
            watching.run_once()
            clock[0] += 4000
        (trouble,) = journal.troubles()
        assert (trouble.image.sop, trouble.state, trouble.attempts) == (str(empty.SOPInstanceUID), State.FAILED, 3)
        assert "without pixels" in trouble.error
        assert str(tmp_path) not in trouble.error
        assert journal.is_done(str(good.SOPInstanceUID))
        assert journal.retry_failed(clock[0]) == 1


def test_archive_restart_counts_no_attempt_and_loses_no_report(tmp_path: Path) -> None:
    bring_loopback_up()
    study = generate_uid()
    archive = Orthanc(tmp_path / "archive")
    with Journal(tmp_path / "journal", MODEL) as journal:
        archive.start()
        archive.send(*(make_image(study, generate_uid(), brightness=value) for value in (1, 2, 3)))
        watching = watcher(archive, tmp_path / "journal", journal)
        stored = watching._destination.store

        def store_and_fall(reports: Sequence[object]) -> None:
            stored(reports)  # type: ignore[arg-type] - the same reports
            archive.stop(signal.SIGKILL)

        watching._destination.store = store_and_fall  # type: ignore[method-assign] - the archive falls after one report
        with pytest.raises(ArchiveUnreachable):
            watching.run_once()
        assert journal.counts()["waiting"] == 2
        assert not journal.troubles()
        with pytest.raises(ArchiveUnreachable):
            watching.run_once()
        archive.start()
        watching._destination.store = stored  # type: ignore[method-assign] - as it was
        watching.run_once()
        assert len(sources_of(archive, study)) == 3
    archive.stop()


def test_archive_that_sends_another_image_is_refused(orthanc: Orthanc, tmp_path: Path) -> None:
    one, other = (make_image(generate_uid(), generate_uid()) for _ in range(2))
    orthanc.send(one, other)
    with Archive(orthanc.url) as archive:
        (asked,) = archive.images(str(one.StudyInstanceUID))
        get = archive._session.get
        wrong = [str(other.StudyInstanceUID), str(other.SeriesInstanceUID), str(other.SOPInstanceUID)]
        url = f"{orthanc.url}/studies/{wrong[0]}/series/{wrong[1]}/instances/{wrong[2]}"
        archive._session.get = lambda _, **options: get(url, **options)  # type: ignore[method-assign] - it lies
        with pytest.raises(ArchiveRefused, match="another image"):
            archive.fetch(asked, tmp_path / "x.dcm")
        assert not (tmp_path / "x.dcm").exists()


def write_shapes(study: str, count: int, **options: str) -> list[pydicom.Dataset]:
    """Write images that the scene's model can classify, as objects of one study."""
    made = []
    for number in range(count):
        made.append(make_image(study, generate_uid(), **options))  # type: ignore[arg-type] - passed through
        pixels = shapes(number % 2, 1, 40 + number)[0]
        made[-1].Rows, made[-1].Columns = pixels.shape
        made[-1].PixelData = (pixels.astype("<u2") * 16).tobytes()
    return made


def test_watch_once_reports_through_real_server_and_lists_failures(
    orthanc: Orthanc, scene: Scene, tmp_path: Path
) -> None:
    study = generate_uid()
    good = write_shapes(study, 3, body_part="HEAD")
    broken = make_image(study, generate_uid(), body_part="HEAD")
    del broken.PixelData
    (unlike,) = write_shapes(study, 1, modality="MR", body_part="HEAD")  # the model was trained on CT
    orthanc.send(*good, broken, unlike, *write_shapes(study, 1, body_part="KNEE"))

    def options(journal: str, refusals: str) -> list[object]:
        return [
            "watch", "--once", "--archive", orthanc.url, "--modality", "CT", "--modality", "MR", "--body-part", "HEAD",
            "--quiet", 0, "--refusals", refusals, "--report", "sr,pdf", "--journal", tmp_path / journal, *scene.options,
        ]  # fmt: skip

    said = watch_once(*options("silent", "none"), status=3)
    assert "3 reported, 1 refused" in said
    assert "without pixels" in said
    assert sources_of(orthanc, study) == sorted(str(image.SOPInstanceUID) for image in good)
    reports = [report for report in orthanc.instances("SR") if report.StudyInstanceUID == study]
    parameters = [
        str(item.TextValue)
        for item in reports[0].ContentSequence[-2].ContentSequence[0].ContentSequence
        if item.ValueType == "TEXT"
    ]
    assert any(re.fullmatch("receipt SHA-256=[0-9a-f]{64}", text) for text in parameters)
    assert sum(page.StudyInstanceUID == study for page in orthanc.instances("DOC")) == 3

    # Another journal, where refusals are reported: the reports that are there stay as they are.
    assert "4 reported" in watch_once(*options("telling", "report"), status=3)
    assert sources_of(orthanc, study) == sorted(str(image.SOPInstanceUID) for image in (*good, unlike))
    refusals = [
        report
        for report in orthanc.instances("SR")
        if report.StudyInstanceUID == study and str(unlike.SOPInstanceUID) in str(report)
    ]
    (refusal,) = refusals
    items = list(walk_content(refusal))
    said = " ".join(str(item.TextValue) for item in items if item.ValueType == "TEXT")
    assert "Modality is MR; the model was made from CT" in said
    assert "not a diagnosis" in said
    assert not any(item.ValueType == "NUM" for item in items)
    findings = [item for item in items if item.ConceptNameCodeSequence[0].CodeValue == "121071"]
    assert not findings


def walk_content(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """All content items of a Structured Report."""
    for below in item.get("ContentSequence", []):
        yield below
        yield from walk_content(below)


@pytest.mark.slow
def test_classify_writes_and_stores_reports_and_names_images_without_study(
    orthanc: Orthanc, scene: Scene, tmp_path: Path
) -> None:
    study = generate_uid()
    (tmp_path / "in").mkdir()
    for number, image in enumerate(write_shapes(study, 2)):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(file_bytes(image))
    options = ["classify", tmp_path / "in", *scene.options, "--report"]
    said = watch_once(*options, "sr,pdf", "--to", tmp_path / "reports")
    assert "Reports of 2 images" in said
    written = sorted(pydicom.dcmread(path).Modality for path in (tmp_path / "reports").iterdir())
    assert written == ["DOC", "DOC", "SR", "SR"]
    watch_once(*options, "sr", "--to-archive", orthanc.url)
    watch_once(*options, "sr", "--to-archive", orthanc.url)
    assert len(sources_of(orthanc, study)) == 2
    stored = {str(report.SOPInstanceUID) for report in orthanc.instances("SR") if report.StudyInstanceUID == study}
    assert stored <= {path.stem for path in (tmp_path / "reports").iterdir()}
    Image.fromarray(shapes(0, 1, 3)[0]).save(tmp_path / "in" / "plain.png")
    said = watch_once(*options, "sr", "--to", tmp_path / "reports", status=3)
    assert "no report" in said
    assert "plain.png" in said
    assert "--report" in watch_once("classify", tmp_path / "in", *scene.options, "--to", tmp_path, status=1)
    assert "not both" in watch_once(*options, "sr", "--to", tmp_path, "--to-archive", orthanc.url, status=1)


@pytest.mark.slow
def test_repeated_store_on_page_leaves_one_report_in_archive(orthanc: Orthanc, scene: Scene, tmp_path: Path) -> None:
    if not CHROMIUM.exists():
        pytest.skip("Debian's package chromium is not installed")
    study = generate_uid()
    (image,) = write_shapes(study, 1)
    (tmp_path / "scan.dcm").write_bytes(file_bytes(image))
    console = RunningConsole(scene, tmp_path / "state", "--to-archive", orthanc.url)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(console.link)
            page.get_by_label("Passphrase").fill(WORDS)
            page.get_by_role("button", name="Unlock").click()
            page.set_input_files("#files", tmp_path / "scan.dcm")
            page.get_by_role("button", name="Classify 1 image").click(timeout=60_000)
            expect(page.get_by_text("Last run: 1 of 1")).to_be_visible(timeout=60_000)
            page.get_by_role("link", name="scan.dcm").click()
            for _ in range(2):
                page.get_by_role("button", name="Store the report").click()
                expect(page.locator("#stored")).to_contain_text("Stored in the archive", timeout=20_000)
                page.reload()
            browser.close()
    finally:
        console.stop()
    assert sources_of(orthanc, study) == [str(image.SOPInstanceUID)]


@pytest.mark.slow
def test_vault_keeps_sealed_study_in_archive_and_gets_it_back_byte_for_byte(orthanc: Orthanc, tmp_path: Path) -> None:
    study = generate_uid()
    (tmp_path / "in").mkdir()
    originals = []
    for number, image in enumerate(write_shapes(study, 3)):
        originals.append(file_bytes(image))
        (tmp_path / "in" / f"{number}.dcm").write_bytes(originals[-1])
    key = ("--key", tmp_path / "vault.key")
    sealing = ["protect", tmp_path / "in", "--to", tmp_path / "vault", *key, "--to-archive", orthanc.url]
    assert "--form dicom" in watch_once(*sealing, status=1)
    for _ in range(2):
        assert "3 sealed objects are in" in watch_once(*sealing, "--form", "dicom")
    assert all(image.StudyInstanceUID != study for image in orthanc.instances("CT"))
    asked = ["restore", "--to", tmp_path / "out", *key, "--from-archive", orthanc.url, "--study"]
    watch_once(*asked, study)
    assert sorted(path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")) == sorted(originals)
    assert "no sealed study" in watch_once(*asked, generate_uid(), status=1)
    assert "--study" in watch_once("restore", "--to", tmp_path / "out", *key, status=1)


@pytest.mark.slow
def test_watch_receives_by_scp_and_reports_into_archive_over_kills(
    orthanc: Orthanc, scene: Scene, tmp_path: Path
) -> None:
    port, health, study = free_port(), free_port(), generate_uid()
    command = [
        sys.executable, "-m", "he_infer", "watch", "--listen", f"WATCH@127.0.0.1:{port}", "--peer", "SCANNER",
        "--to-archive", orthanc.url, "--journal", str(tmp_path / "journal"), "--quiet", "1", "--poll", "0.5",
        "--health-port", str(health), *scene.options,
    ]  # fmt: skip
    environment = {**os.environ, "HE_INFER_PASSPHRASE": WORDS, "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        wait_until(lambda: answers(port) and answers(health), "the watcher does not listen")
        return process

    sent = write_shapes(study, 4)
    process = start()
    try:
        assert send(port, *(pydicom.dcmread(BytesIO(file_bytes(image))) for image in sent[:3]), called="WATCH") == [
            0,
            0,
            0,
        ]
        process.kill()
        process.wait(30)
        wait_until(lambda: not answers(port), "the storage SCP outlives its watcher")
        process = start()
        assert send(port, pydicom.dcmread(BytesIO(file_bytes(sent[3]))), called="WATCH") == [0]
        wait_until(lambda: len(sources_of(orthanc, study)) == 4, "not all images are reported", 60)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{health}/healthz", timeout=5) as answer:
            assert json.loads(answer.read())["counts"]["reported"] == 4
        wait_until(lambda: not list((tmp_path / "journal" / "spool").glob("*.dcm")), "images stay in the spool")
        second = subprocess.run([*command, "--once"], env=environment, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert "Another watcher" in second.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.slow
def test_watch_waits_for_a_server_that_is_down_without_counting_attempts(
    orthanc: Orthanc, scene: Scene, tmp_path: Path
) -> None:
    study = generate_uid()
    orthanc.send(*write_shapes(study, 2, body_part="FOOT"))
    options = [
        "watch", "--once", "--archive", orthanc.url, "--body-part", "FOOT", "--quiet", 0, "--journal",
        tmp_path / "journal", *scene.options,
    ]  # fmt: skip
    scene.stop_server()
    line = watch_once(*options, status=1)
    assert scene.server.url in line
    scene.start_server()
    assert "2 reported" in watch_once(*options)
    assert len(sources_of(orthanc, study)) == 2


def watch_once(*options: object, status: int = 0) -> str:
    """Run a command and check its exit status; returns all its output."""
    environment = {**os.environ, "HE_INFER_PASSPHRASE": WORDS, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "he_infer", *map(str, options)],
        env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def wait_until(holds: Callable[[], bool], otherwise: str, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, otherwise
        time.sleep(0.2)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Iterator[Scene]:
    with make_scene(tmp_path_factory.mktemp("scene"), share_model(tmp_path_factory)) as made:
        yield made
