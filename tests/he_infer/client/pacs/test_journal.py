"""The journal: its content after crashes, and its lock."""

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from he_infer.client.pacs.entries import ImageEntry, StudyEntry
from he_infer.client.pacs.watch.choice import parse_choice
from he_infer.client.pacs.watch.journal import FILE, LOCK, Journal, State, back_off
from he_infer.errors import NotThisFormat, UnsupportedVersion, UsageError

IMAGES = [ImageEntry("1.2", "1.2.3", f"1.2.3.{number}") for number in range(3)]


def open_and_die(folder: Path) -> None:
    import os

    journal = Journal(folder, "m")
    journal.add_images(StudyEntry("1.2", 3), IMAGES, 1.0)
    journal.finish(IMAGES[0], State.REPORTED, 2.0, ["2.25.1"])
    os._exit(9)


def test_second_watcher_on_one_journal_is_refused_until_first_ends(tmp_path: Path) -> None:
    with Journal(tmp_path, "m"), pytest.raises(UsageError, match="Another watcher"):
        Journal(tmp_path, "m")
    Journal(tmp_path, "m").close()


def test_journal_of_killed_process_opens_with_what_was_finished(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=open_and_die, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    with Journal(tmp_path, "m") as journal:
        assert journal.is_done(IMAGES[0].sop)
        assert journal.due_images(5.0, 10) == IMAGES[1:]


def test_journal_of_another_model_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path, "chest").close()
    with pytest.raises(UsageError, match="chest"):
        Journal(tmp_path, "breast")
    Journal(tmp_path, "chest").close()


def test_journal_and_folder_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    Journal(folder, "m").close()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", [FILE, LOCK])
def test_damaged_journal_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(NotThisFormat, match=name):
        Journal(tmp_path, "m")


def test_journal_of_later_release_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path, "m").close()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(UnsupportedVersion, match="99"):
        Journal(tmp_path, "m")


def test_study_is_still_only_after_quiet_time_since_it_grew(tmp_path: Path) -> None:
    with Journal(tmp_path, "m") as journal:
        journal.see_studies([StudyEntry("1.2", 3)], 100)
        assert journal.still_studies(150, 60) == []
        journal.see_studies([StudyEntry("1.2", 4)], 150)
        assert journal.still_studies(170, 60) == []
        assert journal.still_studies(210, 60) == [StudyEntry("1.2", 4)]
        journal.add_images(StudyEntry("1.2", 4), IMAGES, 210)
        assert journal.still_studies(10_000, 60) == []
        journal.see_studies([StudyEntry("1.2", 5)], 10_001)
        assert journal.still_studies(10_100, 60) == [StudyEntry("1.2", 5)]


def test_image_is_added_once_however_often_it_is_found(tmp_path: Path) -> None:
    with Journal(tmp_path, "m") as journal:
        assert journal.add_images(StudyEntry("1.2", 3), IMAGES, 1) == 3
        journal.finish(IMAGES[0], State.REPORTED, 2, ["2.25.1"])
        assert journal.add_images(StudyEntry("1.2", 3), IMAGES, 3) == 0
        assert journal.due_images(4, 10) == IMAGES[1:]


def test_failed_image_waits_longer_each_time_and_goes_alone(tmp_path: Path) -> None:
    with Journal(tmp_path, "m") as journal:
        journal.add_images(StudyEntry("1.2", 3), IMAGES, 0)
        for attempt, due in ((1, 10), (2, 20), (3, 40)):
            journal.begin(IMAGES[:2], 0)
            for image in IMAGES[:2]:
                journal.fail(image, "broken", 0, most_attempts=9)
            assert journal.due_images(due - 1, 10) == IMAGES[2:]
            assert {trouble.attempts for trouble in journal.troubles()} == {attempt}
        journal.finish(IMAGES[2], State.REPORTED, 1)
        assert len(journal.due_images(1000, 10)) == 1
    assert back_off(30) == 3600


def test_attempts_that_end_with_the_process_are_given_up_at_last(tmp_path: Path) -> None:
    for _ in range(3):
        with Journal(tmp_path, "m") as journal:
            journal.add_images(StudyEntry("1.2", 3), IMAGES[:1], 0)
            journal.begin(IMAGES[:1], 0)
    with Journal(tmp_path, "m") as journal:
        assert journal.give_up_interrupted(4) == 0
        assert journal.give_up_interrupted(3) == 1
        assert journal.counts()["failed"] == 1
        assert journal.retry_failed(5) == 1
        assert journal.due_images(5, 10) == IMAGES[:1]


def test_attempt_taken_back_is_not_counted(tmp_path: Path) -> None:
    with Journal(tmp_path, "m") as journal:
        journal.add_images(StudyEntry("1.2", 3), IMAGES, 0)
        journal.begin(IMAGES, 0)
        journal.take_back(IMAGES, 3)
        assert journal.due_images(3, 10) == IMAGES
        assert journal.troubles() == []


@pytest.mark.parametrize(
    ("modality", "body_part", "description", "taken"),
    [
        ("CT", "CHEST", "Thorax routine", True),
        ("CT", "chest", "THORAX", True),
        ("MR", "CHEST", "Thorax", False),
        ("CT", "HEAD", "Thorax", False),
        ("CT", "CHEST", "Abdomen", False),
    ],
)
def test_choice_is_by_modality_body_part_and_description(
    modality: str, body_part: str, description: str, taken: bool
) -> None:
    choice = parse_choice(["ct"], ["Chest"], "thorax|lung")
    assert choice.takes(ImageEntry("1", "2", "3", modality, body_part, description)) is taken


def test_choice_of_everything_excludes_reports() -> None:
    choice = parse_choice([], [], "")
    assert choice.takes(ImageEntry("1", "2", "3"))
    assert not choice.takes(ImageEntry("1", "2", "3", "SR"))
    assert not choice.takes(ImageEntry("1", "2", "3", "DOC"))


@pytest.mark.parametrize(("modalities", "description"), [(["C T"], ""), (["SR"], ""), ([], "(")])
def test_impossible_choice_is_refused(modalities: list[str], description: str) -> None:
    with pytest.raises(UsageError):
        parse_choice(modalities, [], description)
