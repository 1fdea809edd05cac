"""Which paths of a folder become rows: files, and whatever cannot be entered or read."""

import os
from pathlib import Path

import pytest

from he_infer.client.images.find import find_images
from he_infer.errors import ImageError
from models.errors import NotAnImage
from models.images.load import load_image
from models.images.walk import walk_files


def make_tree(root: Path) -> Path:
    (root / "own" / "empty").mkdir(parents=True)
    (root / "elsewhere").mkdir()
    for name in ("own/b.png", "own/.hidden", "elsewhere/a.png"):
        (root / name).write_bytes(b"x")
    (root / "own" / "linked").symlink_to(root / "elsewhere", target_is_directory=True)
    (root / "own" / "loop").symlink_to(root / "own", target_is_directory=True)
    (root / "own" / "lost.png").symlink_to("nowhere.png")
    os.mkfifo(root / "own" / "pipe.png")
    return root / "own"


def test_links_to_folders_broken_links_and_pipes_are_rows_and_not_followed(tmp_path: Path) -> None:
    found = find_images([make_tree(tmp_path)])
    assert [path.name for path in found] == ["b.png", "linked", "loop", "lost.png", "pipe.png"]


def test_folder_that_cannot_be_listed_is_a_row(tmp_path: Path) -> None:
    assert list(walk_files(tmp_path / "gone")) == [tmp_path / "gone"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("linked", "Links to folders are not followed"), ("lost.png", "There is no file"), ("pipe.png", "is a pipe")],
)
def test_reader_refuses_what_is_no_file_with_its_reason(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(NotAnImage, match=message):
        load_image(make_tree(tmp_path) / name)


@pytest.mark.parametrize("name", ["none.png", "x" * 5000, "nul\0byte"])
def test_path_that_cannot_exist_is_a_row_beside_one_that_does(name: str, tmp_path: Path) -> None:
    assert [path.name for path in find_images([tmp_path / name, make_tree(tmp_path) / "b.png"])] == [name, "b.png"]
    with pytest.raises(NotAnImage):
        load_image(tmp_path / name)


@pytest.mark.parametrize("name", ["none.png", "x" * 5000, "nul\0byte"])
def test_path_that_cannot_exist_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="There is no file or folder"):
        find_images([tmp_path / name])
