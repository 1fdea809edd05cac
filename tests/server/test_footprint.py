"""What the server needs: its packages, and its memory with one client."""

import json
import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement
from safetensors.numpy import save_file

from he_infer.client.local_server import LocalServer
from tests.server.kit import client_of
from tests.server.processes import processes


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


def test_the_server_installs_without_torch_and_without_the_client_s_libraries() -> None:
    server = closure("server")
    assert {"fastapi", "tenseal", "sqlalchemy"} <= server
    assert not server & {"torch", "scikit-learn", "pydicom", "pillow", "httpx2", "matplotlib", "numba", "scipy"}
    assert "torch" in closure("client")


def proportional_bytes(pid: int) -> int:
    """Memory of a process, where what several share is divided among them (Pss)."""
    match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match.group(1)) * 1024


def full_size_bundle(path: Path, seed: int = 1) -> Path:
    """512 -> 64 -> x^2 -> 10, random weights."""
    rng = np.random.default_rng(seed)
    tensors = {
        "head.0.weight": rng.normal(0, 0.05, (64, 512)),
        "head.0.bias": rng.normal(0, 0.1, 64),
        "head.2.weight": rng.normal(0, 0.1, (10, 64)),
        "head.2.bias": rng.normal(0, 0.1, 10),
    }
    described = {
        "format": "he-infer-bundle",
        "version": 1,
        "name": f"full size {seed}",
        "classes": [f"class {number}" for number in range(10)],
        "policy": "hidden",
        "input_bound": 1.0,
        "head": [
            {"kind": "linear", "weight": "head.0.weight", "bias": "head.0.bias"},
            {"kind": "polynomial", "coefficients": [0.0, 0.0, 1.0]},
            {"kind": "linear", "weight": "head.2.weight", "bias": "head.2.bias"},
        ],
    }
    save_file(tensors, path, metadata={"he_infer_bundle": json.dumps(described)})
    return path


def test_with_one_client_the_server_holds_less_than_300_megabytes(tmp_path: Path) -> None:
    bundle = full_size_bundle(tmp_path / "full.hebundle")
    options = ["--workers", "2"]
    with LocalServer([bundle], tmp_path / "data", options=options) as server, client_of(server) as client:
        features = np.random.default_rng(2).uniform(-1, 1, (1, 512))
        for _ in range(10):
            client.scores(features)
        held = sum(proportional_bytes(pid) for pid in processes(server.pid))
        print(f"ready after {server.ready_seconds:.2f} s; {held / 1e6:.0f} MB with one client and two workers")
        assert held < 300e6
