"""The page in a real browser, from files to reports, with a real model, server and encryption."""

import json
import re
import urllib.request
from pathlib import Path

import numpy as np
import pydicom
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.e2e.kit import WORDS, images, write_dicom
from tests.he_infer.client.console.conftest import RunningConsole
from tests.he_infer.client.scene import Scene

HOSTILE = '<img src=x onerror="document.title=1">.png'


def write_images(folder: Path, count: int, *, dicom: bool = False) -> list[Path]:
    folder.mkdir()
    made = []
    for number in range(count):
        pixels = images(number % 2, 1, 900 + number)[0]
        if dicom:
            made.append(write_dicom(folder / f"scan {number}.dcm", pixels, "P1"))
        else:
            made.append(folder / f"image {number:03d}.png")
            Image.fromarray(pixels).save(made[-1])
    return made


def add(page: Page, files: list[Path]) -> None:
    page.set_input_files("#files", files)
    expect(page.locator("#upload")).to_contain_text(f"{len(files)} of {len(files)} files added", timeout=120_000)


def classify(page: Page, count: int) -> None:
    page.get_by_role("button", name=re.compile(f"Classify {count} image")).click()
    expect(page.get_by_text(f"Last run: {count} of {count} images")).to_be_visible(timeout=120_000)


def assert_accessible(page: Page) -> None:
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    assert found.violations_count == 0, found.generate_report()


def test_whole_journey_from_files_to_report_and_history(page: Page, tmp_path: Path) -> None:
    files = write_images(tmp_path / "in", 3, dicom=True)
    text = tmp_path / "in" / "notes.txt"
    text.write_text("no image")
    add(page, [*files, text])
    assert_accessible(page)
    expect(page.get_by_role("row", name="notes.txt")).to_contain_text("unreadable")
    classify(page, 3)
    assert_accessible(page)
    expect(page.get_by_role("row", name="scan 0.dcm")).to_contain_text("classified")

    page.get_by_role("link", name="scan 0.dcm").click()
    canvas = page.locator("canvas[data-drawn=yes]")
    expect(canvas).to_be_visible()
    said = page.locator("#window").inner_text()
    canvas.focus()
    for key in ("ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
    assert page.locator("#window").inner_text() != said
    page.keyboard.press("Escape")
    expect(page.locator("#window")).to_have_text(said)
    expect(page.get_by_text("Accepted:")).to_be_visible()
    expect(page.locator(".headline")).to_have_text(re.compile("disc|bar"))
    expect(page.get_by_text("the model's operating point of")).to_be_visible()
    received = page.get_by_role("region", name="The server received")
    entropy = re.search(r"([\d.]+) of 8 bits", received.inner_text())
    assert entropy is not None
    assert float(entropy[1]) > 7.9
    for picture in page.locator("img.picture").all():
        assert picture.evaluate("image => image.naturalWidth") > 100
    expect(page.get_by_text("head_digest")).to_be_visible()
    assert_accessible(page)
    for name, kind in (("Structured Report", "SR"), ("PDF in DICOM", "DOC")):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        report = pydicom.dcmread(download.value.path())
        assert report.Modality == kind
        assert report.StudyInstanceUID == pydicom.dcmread(files[0]).StudyInstanceUID

    page.get_by_role("link", name="History").click()
    expect(page.get_by_text(re.compile(r"\d+ results, encrypted"))).to_be_visible()
    assert_accessible(page)
    page.get_by_label("Words to look for").fill("scan 1.dcm")
    expect(page.locator("#found tbody tr")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    assert {record["name"] for record in json.loads(download.value.path().read_text())} >= {path.name for path in files}

    page.get_by_role("link", name="Keys and server").click()
    expect(page.get_by_role("row", name="registered keys")).to_contain_text("ok", timeout=20_000)
    expect(page.locator("#checks .bad")).to_have_count(0)
    assert_accessible(page)


def test_folder_and_dropped_file_are_added_under_their_names(page: Page, tmp_path: Path) -> None:
    write_images(tmp_path / "study", 2)
    page.set_input_files("#folder", tmp_path / "study")
    expect(page.get_by_role("link", name="study/image 001.png")).to_be_visible(timeout=20_000)
    dropped = page.evaluate_handle(
        "() => { const given = new DataTransfer(); given.items.add(new File(['x'], 'dropped.txt')); return given; }"
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    expect(page.get_by_role("row", name="dropped.txt")).to_contain_text("unreadable", timeout=20_000)


@pytest.mark.slow
def test_vault_seals_checks_and_restores_a_folder(page: Page, tmp_path: Path) -> None:
    files = write_images(tmp_path / "in", 2)
    page.get_by_role("link", name="Vault").click()
    assert_accessible(page)

    def do(verb: str, source: Path, to: Path | None) -> None:
        page.get_by_label("Command").select_option(verb)
        page.get_by_label("From").fill(str(source))
        page.get_by_label("To (not").fill(str(to or ""))
        page.get_by_label("Key file of the vault").fill(str(tmp_path / "vault.key"))
        page.get_by_label("Its passphrase").fill(WORDS)
        page.get_by_role("button", name="Run").click()

    do("protect", tmp_path / "in", tmp_path / "vault")
    expect(page.get_by_role("heading", name="protect: done")).to_be_visible(timeout=60_000)
    assert not any(
        path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in (tmp_path / "vault").rglob("*.*") if path.is_file()
    )
    do("restore", tmp_path / "vault", tmp_path / "out")
    expect(page.get_by_role("heading", name="restore: done")).to_be_visible(timeout=60_000)
    assert sorted(path.read_bytes() for path in (tmp_path / "out").rglob("*.png")) == sorted(
        path.read_bytes() for path in files
    )
    do("verify", tmp_path / "nowhere", None)
    expect(page.get_by_role("heading", name="verify: not done")).to_be_visible(timeout=60_000)


def test_wrong_passphrase_is_reported_and_right_one_opens(page: Page, console: RunningConsole) -> None:
    page.get_by_role("link", name="Keys and server").click()
    page.get_by_role("button", name="Lock the page").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(console.new_link())
    assert_accessible(page)
    page.get_by_label("Passphrase").fill("wrong words")
    page.get_by_role("button", name="Unlock").click()
    expect(page.get_by_role("alert")).to_contain_text("this is not its passphrase")
    page.get_by_label("Passphrase").fill(WORDS)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Images")).to_be_visible()


def test_login_link_opens_once_and_nothing_opens_without_it(browser: Browser, console: RunningConsole) -> None:
    first, second = browser.new_context(), browser.new_context()
    link = console.new_link()
    own = console.own
    page = second.new_page()
    page.goto(own + "/history")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    first.new_page().goto(link)
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("used already")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(own + "/send", data=b"", headers={"Origin": own})
    with pytest.raises(urllib.error.HTTPError) as raised:
        opener.open(request, timeout=10)
    assert raised.value.code == 401
    raised.value.close()
    first.close()
    second.close()


def test_hostile_names_and_tags_are_shown_as_text(page: Page, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    named = tmp_path / "in" / HOSTILE.replace("/", "")
    Image.fromarray(images(0, 1, 5)[0]).save(named)
    tagged = write_dicom(tmp_path / "in" / "tagged.dcm", images(1, 1, 6)[0], "x")
    dataset = pydicom.dcmread(tagged)
    dataset.AccessionNumber = "<script>1</>"
    dataset.PatientName = "<b>bold</b>"
    dataset.save_as(tagged)
    add(page, [named, tagged])
    classify(page, 2)
    expect(page.get_by_role("link", name=named.name)).to_be_visible()
    expect(page.get_by_text("<script>1</>")).to_be_visible()
    page.get_by_role("link", name=named.name).click()
    expect(page.get_by_role("heading", name=named.name)).to_be_visible()
    page.get_by_role("link", name="History").click()
    expect(page.get_by_role("cell", name=named.name)).to_be_visible()
    assert "he_infer" in page.title()
    assert page.locator("main img, main script, main b").count() == 0


def test_two_tabs_and_a_reload_see_the_same_run(page: Page, console: RunningConsole, tmp_path: Path) -> None:
    add(page, write_images(tmp_path / "in", 40))
    other = page.context.new_page()
    other.goto(console.own)
    expect(other.get_by_role("button", name="Classify 40 images")).to_be_visible()
    page.get_by_role("button", name="Classify 40 images").click()
    page.reload()
    for tab in (page, other):
        expect(tab.get_by_text("Last run: 40 of 40 images")).to_be_visible(timeout=120_000)
    other.get_by_role("button", name="Clear the page").click()
    expect(page.get_by_role("row", name="image 000.png")).to_have_count(0)


@pytest.mark.slow
def test_lost_server_is_reported_and_images_are_sent_after_its_return(page: Page, scene: Scene, tmp_path: Path) -> None:
    add(page, write_images(tmp_path / "in", 2))
    scene.stop_server()
    try:
        page.get_by_role("button", name="Classify 2 images").click()
        expect(page.get_by_role("alert").filter(has_text="The run ended early")).to_be_visible(timeout=90_000)
        expect(page.get_by_role("button", name="Classify 2 images")).to_be_visible()
    finally:
        scene.start_server()
    classify(page, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("dark", 1200), ("light", 360), ("dark", 360)])
def test_small_screens_and_dark_mode_stay_readable(page: Page, tmp_path: Path, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] - one of the two words
    page.set_viewport_size({"width": width, "height": 800})
    add(page, write_images(tmp_path / "in", 1))
    page.get_by_role("link", name="image 000.png").click()
    expect(page.locator("canvas[data-drawn=yes]")).to_be_visible()
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_keyboard_alone_reaches_and_starts_a_run(page: Page, tmp_path: Path) -> None:
    add(page, write_images(tmp_path / "in", 1))
    page.locator("body").click(position={"x": 1, "y": 1})
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "send":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_text("Last run: 1 of 1 images")).to_be_visible(timeout=60_000)


@pytest.mark.slow
def test_compressed_and_bright_images_are_windowed_from_display_values(page: Page, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    colour = tmp_path / "in" / "colour.png"
    Image.fromarray(np.stack([images(0, 1, 8)[0]] * 3, axis=-1)).save(colour)
    add(page, [colour])
    page.get_by_role("link", name="colour.png").click()
    expect(page.locator("#window")).to_contain_text("level 128, window 255")
