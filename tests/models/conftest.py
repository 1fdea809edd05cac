"""Fixtures for the tests of models."""

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import datasets
from models.bundle import Bundle
from models.datasets import Dataset
from models.training.train import Recipe, train
from tests.models.kit import toy


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[str]:
    """The address of a local server of the folder `served`."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "served"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    return Recipe(epochs=4, channels=(8, 16))


@pytest.fixture(scope="session")
def trained(small_recipe: Recipe) -> Bundle:
    """A bundle of the toy set."""
    return train(toy(), width=64, hidden=8, recipe=small_recipe)


@pytest.fixture(scope="session")
def modality() -> Dataset:
    """The set of DICOM images that come with packages."""
    return datasets.load("modality")


def named(name: str) -> Dataset:
    """A MedMNIST set where the tests' folder has it."""
    folder = os.environ.get("HE_INFER_DATA")
    if not folder or not (Path(folder) / f"{name}.npz").is_file():
        pytest.skip(f"{name}.npz is not in the folder that HE_INFER_DATA names; the tests fetch nothing")
    return datasets.load(name)
