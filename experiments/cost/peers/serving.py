"""Runs one CKKS library's program: reads a head and features, times requests, and prints the figures as JSON."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import Distribution, distribution
from typing import Any, Protocol

import numpy as np

from .head_circuit import Layer, Vector


class PeerHead(Protocol):
    """A head under a library's encryption, with both sides and their keys."""

    @property
    def parameters(self) -> str:
        """Ring and primes, for a reader."""

    def encrypt(self, features: Vector) -> Any: ...
    def evaluate(self, request: Any) -> Any: ...
    def decrypt(self, answer: Any) -> Vector: ...


def serve(package: str, make_head: Callable[[Sequence[Layer]], PeerHead]) -> None:
    """Run the program: `PYTHON -m peers.PROGRAM DATA.npz`.

    DATA.npz holds `features` (n, width), and `weights0`, `biases0`, `weights1` and so on, a pair a linear layer, with
    x^2 between two. The object on standard output has the scores (n, classes) and, for each request, the milliseconds
    of processor time, of all threads, that evaluating it took; keys and encoded weights are made before.

    Args:
        package: the library's distribution, for its version and licence.
        make_head: from the layers to the head.
    """
    with np.load(sys.argv[1]) as arrays:
        count = sum(name.startswith("weights") for name in arrays)
        layers = [(arrays[f"weights{index}"], arrays[f"biases{index}"]) for index in range(count)]
        features = arrays["features"]
    head = make_head(layers)
    head.evaluate(head.encrypt(features[0]))  # weights are encoded in the first call
    scores, spent = [], []
    for row in features:
        request = head.encrypt(row)
        began = time.process_time()
        answer = head.evaluate(request)
        spent.append(1e3 * (time.process_time() - began))
        scores.append(head.decrypt(answer).tolist())
    found = distribution(package)
    report = {
        "scores": scores,
        "cpu_ms": spent,
        "parameters": head.parameters,
        "version": found.version,
        "licence": read_licence(found),
    }
    json.dump(report, sys.stdout)


def read_licence(package: Distribution) -> str:
    """The licence that a package names: its expression, its field, or the first line of its file."""
    named = package.metadata["License-Expression"] or package.metadata["License"]
    if named:
        return str(named)
    for name in package.metadata.get_all("License-File") or []:
        text = package.read_text(f"licenses/{name}") or package.read_text(name)
        if text and text.strip():
            return text.strip().splitlines()[0]
    return "none named"
