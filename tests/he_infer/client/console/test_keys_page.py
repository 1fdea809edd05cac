"""Keys and profiles on the page: made, rotated, registered again, chosen; with a real server."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from he_infer.client.console.office import Locked, Office, Settings
from he_infer.client.keys.key_file import KeyFile, read_wrappings
from he_infer.client.profiles import Profile
from he_infer.errors import HeInferError, UsageError
from tests.e2e.kit import WORDS
from tests.he_infer.client.console.conftest import RunningConsole
from tests.he_infer.client.console.test_journey import add, assert_accessible, classify, write_images
from tests.he_infer.client.scene import Scene


def office(folder: Path, **changes: Any) -> Office:
    return Office(
        Settings("http://127.0.0.1:9", folder / "m", folder / "k", folder / "state", {"token": "t"}, **changes)
    )


@pytest.mark.parametrize(
    ("passphrase", "again", "named"), [("long enough", "other words", "differ"), ("short", "short", "at least 8")]
)
def test_unusable_passphrase_makes_no_key_file(tmp_path: Path, passphrase: str, again: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        office(tmp_path).make_keys(tmp_path / "k", passphrase, again)
    assert not (tmp_path / "k").exists()


def test_existing_file_is_never_overwritten_by_new_keys(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="exists"):
        office(tmp_path).make_keys(tmp_path / "k", WORDS, WORDS)
    assert (tmp_path / "k").read_bytes() == b"somebody's"


def test_locked_page_gives_neither_images_nor_history(tmp_path: Path) -> None:
    made = office(tmp_path)
    for ask in (lambda: made.client, lambda: made.desk, lambda: made.history, lambda: list(made.checks())):
        with pytest.raises(Locked):
            ask()


def test_incomplete_profile_leaves_page_as_it_was(tmp_path: Path) -> None:
    made = office(tmp_path)
    before = made.settings
    here = tmp_path / "config.toml"
    whole = Profile("a", "https://x", here, here, here)
    here.write_text("")
    for wrong, named in (
        (Profile("a", "https://x", here, here), "needs url"),
        (Profile("a", "https://x", tmp_path / "none", here, here), "not there"),
        (whole, "not|empty|short"),  # the model's part is no bundle
    ):
        with pytest.raises(HeInferError, match=named):
            made.switch(wrong)
        assert made.settings is before


def enter(browser: Browser, console: RunningConsole) -> Page:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(console.link)
    return page


@pytest.mark.slow
def test_keys_are_made_rotated_and_registered_on_page_and_profile_is_chosen(
    browser: Browser, scene: Scene, tmp_path: Path
) -> None:
    config, own, ward = tmp_path / "config.toml", tmp_path / "own.key", tmp_path / "ward.key"
    config.write_text("# written by hand\n[profiles.other]\nurl = 'https://other.example'\n")
    changed = Scene(scene.folder, scene.model, own, scene.token, scene.server)
    console = RunningConsole(changed, tmp_path / "state", HE_INFER_CONFIG=str(config))
    try:
        page = enter(browser, console)
        expect(page.get_by_role("heading", name="Make the keys")).to_be_visible()
        assert_accessible(page)
        page.get_by_label("Passphrase, at least 8").fill(WORDS)
        page.get_by_label("The same passphrase again").fill(WORDS + "x")
        page.get_by_role("button", name="Make keys").click()
        expect(page.get_by_role("alert")).to_contain_text("differ")
        assert not own.exists()
        page.get_by_label("The same passphrase again").fill(WORDS)
        page.get_by_role("button", name="Make keys").click()
        page.get_by_label("Passphrase", exact=True).fill(WORDS, timeout=120_000)
        page.get_by_role("button", name="Unlock").click()
        expect(page.get_by_role("heading", name="Images")).to_be_visible(timeout=60_000)
        first = KeyFile.load(own, WORDS)
        assert first.publisher is not None

        page.get_by_role("link", name="Keys and server").click()
        expect(page.locator("#key-card")).to_contain_text(first.key_set)
        expect(page.get_by_role("row", name="registered keys")).to_contain_text("ok", timeout=60_000)
        assert_accessible(page)
        page.get_by_label("Days for which").fill("0")
        page.get_by_role("button", name="Rotate").click()
        expect(page.get_by_text("Rotated: the server keeps")).to_be_visible(timeout=120_000)
        second = KeyFile.load(own, WORDS)
        assert second.key_set != first.key_set
        assert second.retired == ()  # the overlap of no days has ended
        page.get_by_role("button", name="Register and test").click()
        expect(page.get_by_text("test questions were answered rightly")).to_be_visible(timeout=120_000)
        page.get_by_role("button", name="Check again").click()
        expect(page.get_by_role("row", name="registered keys")).to_contain_text(second.key_set, timeout=60_000)

        page.get_by_text("Make another key file").click()
        page.get_by_label("New file").fill(str(ward))
        page.get_by_label("Its passphrase").fill("ward passphrase")
        page.get_by_label("The same passphrase again").fill("ward passphrase")
        page.get_by_role("button", name="Make keys").click()
        expect(page.locator("#made")).to_contain_text("save a profile", timeout=120_000)
        assert [wrapping.kind for wrapping in read_wrappings(ward)] == ["passphrase"]

        page.get_by_role("link", name="Images").click()
        add(page, write_images(tmp_path / "in", 1))
        classify(page, 1)  # with the rotated keys

        page.get_by_role("link", name="Profiles").click()
        expect(page.get_by_role("row", name="other")).to_be_visible()
        page.get_by_label("Name").fill("ward 7")
        page.get_by_label("Key file").fill(str(ward))
        page.get_by_label("File with the token").fill(str(scene.token))
        page.get_by_role("button", name="Save the profile").click()
        expect(page.get_by_role("alert")).to_contain_text("1 to 40 letters")
        page.get_by_label("Name").fill("ward-7")
        page.get_by_role("button", name="Save the profile").click()
        expect(page.get_by_role("row", name="ward-7")).to_be_visible()
        expect(page.get_by_role("alert")).to_be_empty()
        assert_accessible(page)
        assert config.read_text().startswith("# written by hand")
        assert Profile.load("ward-7", config).key == ward
        page.get_by_role("button", name="Remove other").click()
        expect(page.get_by_role("row", name="other")).to_have_count(0)
        page.get_by_role("button", name="Use ward-7").click()
        expect(page.get_by_text("Profile ward-7.")).to_be_visible()
        page.get_by_label("Passphrase", exact=True).fill("ward passphrase")
        page.get_by_role("button", name="Unlock").click()
        expect(page.get_by_role("heading", name="Images")).to_be_visible(timeout=60_000)
        page.get_by_role("link", name="Keys and server").click()
        expect(page.locator("#key-card")).to_contain_text(str(ward))
        page.get_by_role("button", name="Lock the page").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.goto(console.new_link())
        page.get_by_role("link", name="History").click()  # locked: it leads back to the form
        expect(page.get_by_role("heading", name="Unlock the key file")).to_be_visible()
        page.context.close()
    finally:
        assert "Traceback" not in console.stop()
