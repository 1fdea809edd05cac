"""Makes the pictures of the docs: the page, the keys, and an archive with the watcher's reports.

    unshare --net --map-root-user python -m tests.he_infer.client.console.pictures --to docs/images

Everything on them is real: a model that is trained on BreastMNIST's ultrasound images (from HE_INFER_DATA), its server,
an Orthanc, `he-infer console` and `he-infer watch`, driven in Chromium. Look at each picture before committing it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect, sync_playwright
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.cipher.dicom.orthanc_scene import bring_loopback_up
from tests.e2e.kit import WORDS, run
from tests.he_infer.client.console.conftest import CHROMIUM, RunningConsole
from tests.he_infer.client.pacs.orthanc import Orthanc, file_bytes, make_image
from tests.he_infer.client.scene import Scene, make_scene, publish_model

WIDTH = 1200


def make_study(data: Path, count: int = 6) -> list[Dataset]:
    """Test images of BreastMNIST as objects of one ultrasound study."""
    with np.load(data) as file:
        chosen = file["test_images"][:count]
    study, series, made = generate_uid(), generate_uid(), []
    for number, pixels in enumerate(chosen, 1):
        image = make_image(study, series, modality="US", body_part="BREAST")
        image.PatientName, image.PatientID, image.AccessionNumber = "Doe^Jane", "P1", "A1"
        image.InstanceNumber = number
        image.Rows, image.Columns = pixels.shape
        image.PixelData = (pixels.astype("<u2") * 16).tobytes()
        made.append(image)
    return made


def picture_page(page: Page, console: RunningConsole, files: list[Path], to: Path) -> None:
    page.goto(console.link)
    page.get_by_label("Passphrase").fill(WORDS)
    page.get_by_role("button", name="Unlock").click()
    page.set_input_files("#files", files)
    page.get_by_role("button", name=f"Classify {len(files)} images").click(timeout=240_000)
    expect(page.get_by_text(f"Last run: {len(files)} of {len(files)}")).to_be_visible(timeout=240_000)
    page.screenshot(path=to / "console-images.png", full_page=True)
    page.get_by_role("link", name=files[0].name).click()
    expect(page.locator("canvas[data-drawn=yes]")).to_be_visible()
    page.get_by_role("button", name="Store the report").click()
    expect(page.locator("#stored")).to_contain_text("Stored", timeout=30_000)
    page.screenshot(path=to / "console-image.png", full_page=True)
    page.get_by_role("link", name="Keys and server").click()
    expect(page.get_by_role("row", name="registered keys")).to_be_visible(timeout=240_000)
    page.screenshot(path=to / "console-keys.png", clip={"x": 0, "y": 0, "width": WIDTH, "height": 860}, full_page=True)


def picture_archive(page: Page, archive: Orthanc, study: str, to: Path) -> None:
    query = {"Level": "Study", "Query": {"StudyInstanceUID": study}}
    (number,) = json.loads(archive.rest.post("/tools/find", json.dumps(query).encode(), "application/json"))
    page.goto(f"http://127.0.0.1:{archive.port}/app/explorer.html#study?uuid={number}")
    expect(page.get_by_text("SR", exact=False).first).to_be_visible(timeout=30_000)
    page.wait_for_timeout(1500)  # Orthanc's page draws its lists after its requests
    page.screenshot(path=to / "watcher-archive.png")


def watch(archive: Orthanc, scene: Scene, folder: Path) -> str:
    """Run the watcher once; returns what it said."""
    command = [
        sys.executable, "-m", "he_infer", "watch", "--once", "--archive", archive.url, "--modality", "US", "--quiet",
        "0", "--report", "sr,pdf", "--journal", str(folder / "journal"), *scene.options,
    ]  # fmt: skip
    environment = {**os.environ, "HE_INFER_PASSPHRASE": WORDS}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True)
    to = parser.parse_args().to
    bring_loopback_up()
    data = Path(os.environ["HE_INFER_DATA"]) / "breastmnist.npz"
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        parts = publish_model(folder / "model", data=data, name="breast ultrasound", width=32)
        study = make_study(data)
        files = [folder / f"US {number}.dcm" for number in range(1, len(study) + 1)]
        for path, image in zip(files, study, strict=True):
            path.write_bytes(file_bytes(image))
        (folder / "scene").mkdir()
        with make_scene(folder / "scene", parts) as scene, Orthanc(folder / "archive", explorer=True) as archive:
            run(
                "keys", "wrappings", "add", scene.key, "shares", "--kit", folder / "kit", "--label", "sheets of May",
                HE_INFER_PASSPHRASE=WORDS,
            )  # fmt: skip
            archive.send(*study)
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": 800})
            # A relative path: the picture shows no folder of this machine.
            near = replace(scene, key=scene.key.relative_to(scene.folder))
            console = RunningConsole(near, folder / "state", "--to-archive", archive.url, cwd=scene.folder)
            try:
                picture_page(page, console, files, to)
            finally:
                console.stop()
            print(watch(archive, scene, folder).strip())
            picture_archive(page, archive, str(study[0].StudyInstanceUID), to)
            browser.close()


if __name__ == "__main__":
    main()
