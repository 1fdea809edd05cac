"""The server's installed packages, and its memory with one client."""

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement

from he_infer.local_server import LocalServer
from tests.he_infer.server.support.kit import client_of, full_size_bundle
from tests.he_infer.server.support.processes import held_bytes


def closure(extra: str) -> set[str]:
    """The names of all distributions that `pip install .[extra]` brings, read from the installed metadata."""
    seen: set[tuple[str, str]] = set()

    def follow(name: str, wanted: str) -> None:
        key = (re.sub(r"[-_.]+", "-", name).lower(), wanted)
        if key in seen:
            return
        seen.add(key)
        try:
            listed = requires(name) or []
        except PackageNotFoundError:
            return
        for text in listed:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                for inner in requirement.extras or {""}:
                    follow(requirement.name, inner)

    follow("he-infer", extra)
    return {name for name, _ in seen}


def test_server_install_has_neither_torch_nor_client_libraries() -> None:
    server = closure("server")
    assert {"fastapi", "tenseal", "sqlalchemy"} <= server
    assert not server & {"torch", "scikit-learn", "pydicom", "pillow", "httpx2", "matplotlib", "numba", "scipy"}


def test_client_install_has_no_training_library() -> None:
    assert not closure("client") & {"torch", "scikit-learn", "scipy", "fastapi", "sqlalchemy"}
    assert "torch" in closure("train")


def test_with_one_client_the_server_holds_less_than_600_megabytes(tmp_path: Path) -> None:
    bundle = full_size_bundle(tmp_path / "full.hebundle")
    options = ["--workers", "2"]
    with LocalServer([bundle], tmp_path / "data", options=options) as server, client_of(server) as client:
        features = np.random.default_rng(2).uniform(-1, 1, (1, 512))
        for _ in range(10):
            client.scores(features)
        held = held_bytes(server.pid)
        print(f"ready after {server.ready_seconds:.2f} s; {held / 1e6:.0f} MB with one client and two workers")
        assert held < 600e6
