"""Shared by the server's tests: a bundle, a client with keys, tokens, refusals."""

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from safetensors.numpy import save_file

from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.plan import Plan
from he_infer.client.connection.session import Session
from he_infer.client.keys.secret_key import SecretKey
from he_infer.client.served_model import ServedModel
from he_infer.errors import RequestRefused
from he_infer.head.bundle_file import VERSION
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from he_infer.server.metadata import Metadata
from he_infer.server.service import DATABASE_FILE
from he_infer.wire import envelope as wire
from he_infer.wire.key_set import new_key_set
from he_infer.wire.refusals import REFUSALS, Code

WIDTH, HIDDEN, CLASSES = 32, 8, 3


def write_bundle(
    path: Path, *, name: str = "Toy Chest", seed: int = 1, policy: str = "hidden", version: int = VERSION
) -> Path:
    """A bundle of a random head 32 -> 8 -> x^2 -> 3, without an extractor."""
    rng = np.random.default_rng(seed)
    first = rng.normal(0, 0.2, (HIDDEN, WIDTH)), rng.normal(0, 0.1, HIDDEN)
    second = rng.normal(0, 0.3, (CLASSES, HIDDEN)), rng.normal(0, 0.1, CLASSES)
    return write_mlp(
        path,
        (first, second),
        version=version,
        name=name,
        classes=["normal", "benign", "malignant"],
        policy=policy,
        input_bound=3.0,  # the planner takes features of a quarter of it for typical; uniform ones up to 1 are 0.19
    )


def full_size_bundle(path: Path, seed: int = 1) -> Path:
    """Write a bundle of a random head 512 -> 64 -> x^2 -> 10."""
    rng = np.random.default_rng(seed)
    first = rng.normal(0, 0.05, (64, 512)), rng.normal(0, 0.1, 64)
    second = rng.normal(0, 0.1, (10, 64)), rng.normal(0, 0.1, 10)
    classes = [f"class {number}" for number in range(10)]
    return write_mlp(path, (first, second), name=f"full size {seed}", classes=classes, input_bound=1.0)


def write_linear(path: Path, *, width: int, classes: int, seed: int = 1) -> Path:
    """A bundle of one linear layer of random weights, policy hidden."""
    rng = np.random.default_rng(seed)
    tensors = {"head.0.weight": rng.normal(0, 0.1, (classes, width)), "head.0.bias": rng.normal(0, 0.1, classes)}
    described = {
        "format": "he-infer-bundle",
        "version": VERSION,
        "part": "whole",
        "name": "linear",
        "classes": [f"class {number}" for number in range(classes)],
        "policy": "hidden",
        "input_bound": 1.0,
        "head": [{"kind": "linear", "weight": "head.0.weight", "bias": "head.0.bias"}],
    }
    save_file(tensors, path, metadata={"he_infer_bundle": json.dumps(described)})
    return path


def write_mlp(
    path: Path,
    layers: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    name: str,
    classes: list[str],
    input_bound: float,
    policy: str = "hidden",
    version: int = VERSION,
) -> Path:
    """A bundle of two linear layers, each its weights and biases, and x^2 between them."""
    tensors = {}
    for number, (weight, bias) in zip((0, 2), layers, strict=True):
        tensors |= {f"head.{number}.weight": weight, f"head.{number}.bias": bias}
    described = {
        "format": "he-infer-bundle",
        "version": version,
        "part": "whole",
        "name": name,
        "classes": classes,
        "policy": policy,
        "input_bound": input_bound,
        "head": [
            {"kind": "linear", "weight": "head.0.weight", "bias": "head.0.bias"},
            {"kind": "polynomial", "coefficients": [0.0, 0.0, 1.0]},
            {"kind": "linear", "weight": "head.2.weight", "bias": "head.2.bias"},
        ],
    }
    save_file(tensors, path, metadata={"he_infer_bundle": json.dumps(described)})
    return path


class Client:
    """A client with keys of its own, registered."""

    def __init__(self, server: LocalServer, session: Session, token: str) -> None:
        self.server = server
        self.session = session
        self.token = token
        self.model: ServedModel = session.models()[0]
        self.plan: Plan = self.model.plans[0]
        self.secret = SecretKey.generate(self.plan.parameters)
        self.keys = self.secret.evaluation_keys(self.plan)
        self.key_set = new_key_set()
        self.stored = session.register(self.plan, self.key_set, self.keys)

    def encrypt(self, features: np.ndarray) -> list[bytes]:
        return self.secret.encrypt(pack(self.plan, features), self.plan.input_scale)

    def scores(self, features: np.ndarray) -> np.ndarray:
        answer = self.session.classify(self.model, self.plan, self.key_set, self.encrypt(features))
        return self.opened(answer.parts, len(features))

    def opened(self, parts: Sequence[bytes], images: int = 1) -> np.ndarray:
        return unpack(self.plan, self.secret.open_answer(self.plan, list(parts)), images)

    def enveloped(self, parts: list[bytes] | None = None, **changes: object) -> bytes:
        """A request's envelope, with changes to its header."""
        stamp = {"nonce": secrets.token_hex(16), "time": int(time.time() * 1000)}
        header = {"model": self.model.id, "plan": self.plan.digest, "key_set": self.key_set, **stamp, **changes}
        named = tuple((f"ct{i}", data) for i, data in enumerate(parts if parts is not None else [b"x"]))
        kept = {name: value for name, value in header.items() if value is not None}
        return wire.Envelope(wire.Kind.REQUEST, kept, named).encode()

    def post(self, body: bytes, **headers: str) -> httpx2.Response:
        sent = {"Authorization": f"Bearer {self.token}", **headers}
        return httpx2.post(
            f"{self.server.url}/v1/models/{self.model.id}/classify", content=body, headers=sent, timeout=120.0
        )


def is_right(plan: Plan, scores: np.ndarray, clear: np.ndarray) -> bool:
    """Tell whether decrypted scores are those computed in clear, to the plan's precision."""
    return bool(np.abs(scores - clear).max() <= plan.precision)


def agree(plan: Plan, one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two decrypted answers may have the same scores in clear: each is off by the precision at most."""
    return bool(np.abs(one - other).max() <= 2 * plan.precision)


@contextmanager
def client_of(server: LocalServer, token: str | None = None, **options: Any) -> Iterator[Client]:
    """A client with this token, or the server's first one, and a session with these options."""
    held = token or server.token
    with Session(server.url, held, **options) as session:
        yield Client(server, session, held)


def add_token(server: LocalServer, client: str, *scopes: tokens.Scope, **more: Any) -> str:
    """The text of a new token of a client's, as the operator makes it beside the running server."""
    token = tokens.new_token()
    metadata = Metadata.sqlite(server.data_dir / DATABASE_FILE)
    metadata.tokens.add(client, token, frozenset(scopes), **more)
    metadata.close()
    return token.text


def refusal(response: httpx2.Response) -> Code:
    """Return the code of a refusal, after checking its form and status."""
    error = response.json()["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert error["request_id"] == response.headers["X-Request-ID"]
    code = Code(error["code"])
    assert response.status_code == REFUSALS[code].status
    return code


def code_of(error: pytest.ExceptionInfo[RequestRefused]) -> Code:
    return Code(error.value.code)
