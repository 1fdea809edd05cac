"""A long test of the watcher: many studies, kills at random moments, failures of the archive and the server.

    unshare --net --map-root-user python -m tests.he_infer.client.pacs.campaign --studies 200 --kills 30

Everything is real: Orthanc, the server, `he-infer watch` in a process of its own. Studies arrive one after another,
some are sent twice, some grow later. The watcher is killed at random moments: one kill in four while it starts, the
others while it works. The archive is killed and started again, the server is away for up to a minute. At the end each
image must have exactly one report. Prints its counts as JSON, and exits with 1 if an image has no report or several.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.cipher.dicom.orthanc_scene import bring_loopback_up
from tests.e2e.kit import WORDS
from tests.e2e.kit import images as shapes
from tests.he_infer.client.pacs.orthanc import Orthanc, answers, free_port, make_image
from tests.he_infer.client.scene import Scene, make_scene, publish_model

_PACE = 14.0
"""The studies arrive within about this many seconds for each two kills, so that there is work at most kills."""


class Watching:
    """`he-infer watch`, which is killed and started again."""

    def __init__(self, archive: Orthanc, scene: Scene, folder: Path) -> None:
        self._health = free_port()
        self._command = [
            sys.executable, "-m", "he_infer", "watch", "--archive", archive.url, "--modality", "CT", "--quiet", "2",
            "--poll", "1", "--journal", str(folder / "journal"), "--health-port", str(self._health), *scene.options,
        ]  # fmt: skip
        self._journal = folder / "journal" / "journal.sqlite"
        self._log = folder / "watch.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def start(self) -> None:
        environment = {**os.environ, "HE_INFER_PASSPHRASE": WORDS, "OMP_NUM_THREADS": "1"}
        self._started = time.time()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_until_up(self) -> None:
        """Wait until `/healthz` answers, which it does once the watcher begins to look."""
        while not answers(self._health):
            assert self._process is not None
            assert self._process.poll() is None, "the watcher ended by itself; see its log"
            time.sleep(0.05)

    def count_interrupted(self) -> int:
        """Number of images that the watcher had begun, and not finished, when it was killed."""
        if not self._journal.exists():
            return 0
        with closing(sqlite3.connect(self._journal)) as journal:
            # An attempt that begins sets `due` to the present time plus 2 s for each earlier attempt.
            query = (
                "SELECT COUNT(*) FROM images WHERE state = 'waiting' AND error LIKE 'The process ended%' "
                "AND due - 2 * (attempts - 1) >= ?"
            )
            return int(journal.execute(query, (self._started,)).fetchone()[0])

    def end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(120)


def make_study(random_: random.Random) -> list[Dataset]:
    study, made = generate_uid(), []
    for _ in range(random_.randint(1, 3)):
        made.append(make_image(study, generate_uid()))
        pixels = shapes(random_.randint(0, 1), 1, random_.randint(1, 10**6))[0]
        made[-1].Rows, made[-1].Columns = pixels.shape
        made[-1].PixelData = (pixels.astype("<u2") * 16).tobytes()
    return made


def send_patiently(archive: Orthanc, images: list[Dataset]) -> None:
    """Send like a scanner: try again until the archive accepts the image."""
    for image in images:
        while True:
            with suppress(OSError):
                archive.send(image)
                break
            time.sleep(0.5)


def count_reports(archive: Orthanc) -> collections.Counter[str]:
    counted: collections.Counter[str] = collections.Counter()
    for report in archive.instances("SR"):
        evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        counted[str(evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)] += 1
    return counted


def run(studies: int, kills: int, seed: int, folder: Path) -> dict[str, object]:
    random_, kill_random = random.Random(seed), random.Random(seed + 1)
    archive = Orthanc(folder / "archive", stable_age=2).start()
    sent: list[Dataset] = []
    counts = collections.Counter[str]()

    def scanner() -> None:
        for _ in range(studies):
            time.sleep(random_.uniform(0, _PACE * kills / studies))
            images = make_study(random_)
            late = images.pop() if len(images) > 1 and random_.random() < 0.3 else None
            send_patiently(archive, images)
            sent.extend(images)
            if random_.random() < 0.2:
                send_patiently(archive, images)
                counts["studies sent twice"] += 1
            if late is not None:
                time.sleep(random_.uniform(0, 6))
                send_patiently(archive, [late])
                sent.append(late)
                counts["studies that grew"] += 1

    with make_scene(folder / "scene", publish_model(folder / "model")) as scene:
        watching = Watching(archive, scene, folder)
        watching.start()
        began = time.monotonic()
        sending = threading.Thread(target=scanner)
        sending.start()
        for number in range(kills):
            if number % 4:
                watching.wait_until_up()
                time.sleep(kill_random.uniform(0, 5))
            else:
                time.sleep(kill_random.uniform(0, 3))
            watching.end(signal.SIGKILL)
            interrupted = watching.count_interrupted()
            counts["kills that interrupted images"] += interrupted > 0
            counts["interrupted attempts"] += interrupted
            if number == kills // 3:
                archive.stop(signal.SIGKILL)
                time.sleep(3)
                archive.start()
                counts["archive killed"] += 1
            if number == 2 * kills // 3:
                scene.stop_server()
            watching.start()
            if number == 2 * kills // 3:
                time.sleep(min(60.0, 2.0 * kills))
                scene.start_server()
                counts["server away"] += 1
        sending.join()
        until = time.monotonic() + 120 + 3 * studies
        while time.monotonic() < until and len(count_reports(archive)) < len(sent):
            time.sleep(2)
        watching.end(signal.SIGTERM)
        reports = count_reports(archive)
        seconds = time.monotonic() - began
    archive.stop()
    wanted = {str(image.SOPInstanceUID) for image in sent}
    return {
        "studies": studies, "images": len(wanted), "watcher killed": kills, **counts,
        "images with exactly one report": sum(reports[uid] == 1 for uid in wanted),
        "images without report": sum(reports[uid] == 0 for uid in wanted),
        "images with several reports": sum(reports[uid] > 1 for uid in wanted),
        "reports of other images": sum(uid not in wanted for uid in reports), "seconds": round(seconds),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    bring_loopback_up()
    folder = Path(tempfile.mkdtemp(prefix="he-infer-watch-"))
    (folder / "scene").mkdir()
    counted = run(given.studies, given.kills, given.seed, folder)
    print(json.dumps(counted, indent=2))
    if counted["images with exactly one report"] != counted["images"]:
        print(f"The watcher's log and journal are kept in {folder}.", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
