"""Lists of hundreds of images: cut into portions, searched, and usable while they grow."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from he_infer.client.console.desk import Desk, Item, State
from he_infer.client.console.history import History
from he_infer.client.console.rendering import PORTION, cut
from tests.he_infer.client.console.test_journey import assert_accessible, write_images


@pytest.mark.parametrize(
    ("length", "asked", "number", "last", "rows"),
    [
        (0, 1, 1, 1, 0),
        (1, 1, 1, 1, 1),
        (PORTION, 2, 1, 1, PORTION),
        (PORTION + 1, 2, 2, 2, 1),
        (500, 3, 3, 10, PORTION),
        (500, 10**9, 10, 10, PORTION),
        (500, -7, 1, 10, PORTION),
    ],
)
def test_portion_out_of_range_is_the_nearest_one(length: int, asked: int, number: int, last: int, rows: int) -> None:
    portion = cut(range(length), asked)
    assert (portion.number, portion.last, len(portion.rows), portion.total) == (number, last, rows, length)
    if rows:
        assert portion.rows[0] == portion.first - 1


def test_pages_of_a_list_hold_each_entry_once() -> None:
    entries = list(range(333))
    found = [entry for number in range(1, cut(entries, 1).last + 1) for entry in cut(entries, number).rows]
    assert found == entries


def test_search_of_list_finds_name_state_and_note(tmp_path: Path) -> None:
    client: Any = SimpleNamespace(
        read=lambda path: SimpleNamespace(refusal="It is no image." if "x" in path.name else None)
    )
    desk = Desk(History(tmp_path / "history", bytes(32)), client)
    try:
        names = ("chest.png", "Abdomen 10.dcm", "7", "Abdomen 2.dcm", "2", "²x", "9" * 200)
        for name in names:
            path = desk.new_file(name)
            path.write_bytes(b"")
            desk.add(name, path)
        assert [item.name for item in desk.find("ABDOMEN 2")] == ["Abdomen 2.dcm"]
        assert len(desk.find("ready")) == len(names)
        in_order = ["2", "7", "9" * 200, "Abdomen 2.dcm", "Abdomen 10.dcm", "chest.png", "²x"]
        assert [item.name for item in desk.find("")] == in_order
        assert desk.find("absent") == []
        assert Item("i", "a", tmp_path, 0, State.UNREADABLE, "Too large").text == "a unreadable too large"
    finally:
        desk.close()


@pytest.mark.slow
def test_five_hundred_files_of_a_folder_are_added_classified_and_leafed_through(page: Page, tmp_path: Path) -> None:
    write_images(tmp_path / "study", 500)
    page.set_input_files("#folder", tmp_path / "study")
    expect(page.locator("#upload")).to_contain_text("500 of 500 files added", timeout=240_000)
    rows = page.locator("#desk tbody tr")
    expect(page.get_by_text("1 to 50 of 500")).to_be_visible()
    expect(rows).to_have_count(PORTION)
    assert_accessible(page)
    page.get_by_role("button", name="Classify 500 images").click()
    page.get_by_role("button", name="Next").click()  # the list can be leafed through while it changes
    expect(page.get_by_text("51 to 100 of 500")).to_be_visible()
    expect(page.get_by_text("Last run: 500 of 500 images")).to_be_visible(timeout=240_000)
    expect(page.get_by_text("51 to 100 of 500")).to_be_visible()
    expect(rows.filter(has_text="classified")).to_have_count(PORTION)
    seen = set()
    for number in range(2, 11):
        expect(page.get_by_text(f"{50 * number - 49} to {50 * number} of 500")).to_be_visible()
        seen |= set(page.locator("#desk tbody a").all_inner_texts())
        if number < 10:
            page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.get_by_label("Words to look for in the list").fill("image 123")
    expect(rows).to_have_count(1)
    page.get_by_label("Words to look for in the list").fill("")
    expect(page.get_by_text("1 to 50 of 500")).to_be_visible()
    seen |= set(page.locator("#desk tbody a").all_inner_texts())
    assert seen == {f"study/image {number:03d}.png" for number in range(500)}
    page.get_by_role("link", name="History").click()
    expect(page.get_by_text("1 to 50 of")).to_be_visible()
    page.get_by_label("Words to look for").fill("image 499")
    expect(page.locator("#found tbody tr")).to_have_count(1)
