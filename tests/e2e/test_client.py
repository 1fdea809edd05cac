"""`he_infer.Client` from Python: what it takes, and the mistakes of a caller."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from he_infer import ArrayImage, Client
from he_infer.errors import ImageError, NotThisFormat, UsageError
from tests.e2e.conftest import Setup
from tests.e2e.kit import WORDS


def open_client(client: Setup, **changes: Any) -> Client:
    options = {"model": client.bundle, "key": client.key, "passphrase": WORDS, "token": client.token.read_text()}
    return Client(client.url, **options | changes)


PIXELS = np.zeros((28, 28), dtype=np.uint8)


@pytest.mark.parametrize(
    ("give", "count"),
    [
        (lambda folder: folder, 1),
        (str, 1),
        (lambda folder: [str(folder), folder / "000.png"], 1),
        (lambda folder: (path for path in (folder, folder)), 1),
        (lambda folder: ArrayImage("slice", PIXELS), 1),
        (lambda folder: [folder, ArrayImage("slice", PIXELS), ArrayImage("slice", PIXELS)], 3),
    ],
    ids=["path", "text", "list", "generator", "array", "files and arrays"],
)
def test_one_image_or_several_are_classified(
    give: Callable[[Path], Any], count: int, client: Setup, tmp_path: Path
) -> None:
    (tmp_path / "000.png").write_bytes((client.data / "disc" / "000.png").read_bytes())
    with open_client(client, even_if_unlike=True) as opened:
        results = opened.classify(give(tmp_path))
    assert [result.refusal for result in results] == [None] * count


def test_missing_file_among_others_is_a_row(client: Setup, tmp_path: Path) -> None:
    image = client.data / "disc" / "000.png"
    with open_client(client) as opened:
        missing, there = opened.classify([tmp_path / "none.png", image])
        with pytest.raises(ImageError, match="no file or folder"):
            opened.classify([tmp_path / "none.png", tmp_path / "neither.png"])
    assert there.label is not None
    assert missing.refusal == f"There is no file {tmp_path / 'none.png'}."


@pytest.mark.parametrize("given", [None, 3, b"a.png", PIXELS, [PIXELS], [None]], ids=lambda given: type(given).__name__)
def test_what_is_no_path_is_refused(given: Any, client: Setup) -> None:
    with open_client(client) as opened, pytest.raises(UsageError, match="Expected paths, or arrays as ArrayImage"):
        opened.classify(given)


def test_variable_that_is_not_set_is_named_as_the_cause(client: Setup) -> None:
    with pytest.raises(UsageError, match="No passphrase"):
        open_client(client, passphrase=os.environ.get("HE_INFER_NONE"))


@pytest.mark.parametrize(
    "token", [None, "", "cloud.token", Path("cloud.token"), "hei_two words", "hei_\u00e9", b"hei_x"]
)
def test_what_is_no_token_is_refused_and_not_shown(token: Any, client: Setup) -> None:
    with pytest.raises(NotThisFormat, match="'token' does not hold a token") as refused:
        open_client(client, token=token)
    assert "two words" not in str(refused.value)


def test_token_is_read_with_its_line_end(client: Setup) -> None:
    with open_client(client, token=client.token.read_text().strip() + "\r\n") as opened:
        assert opened.served.plans


def test_clients_are_opened_in_many_threads_at_once(client: Setup) -> None:
    def classify(_: int) -> str | None:
        with open_client(client) as opened:
            (result,) = opened.classify(client.data / "disc" / "000.png")
            return result.label

    with ThreadPoolExecutor(4) as threads:
        labels = list(threads.map(classify, range(4)))
    assert len(set(labels)) == 1
    assert labels[0] is not None
