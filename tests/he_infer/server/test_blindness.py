"""Audit of blindness: after the whole flow, no plaintext is found anywhere on the server's side.

Images become features, ciphertexts, scores and labels, and sealed objects, through a server whose memory, disk,
database, log, metrics and wire are then searched for pixels, features, scores, labels and the secret key, in the
encodings in which they occur. As a positive control, plaintext is planted in each of those places and must be found by
the same search.
"""

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from cipher.container.api import open_bytes, seal_bytes
from cipher.keys.vault_key import VaultKey
from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.plan import Plan
from he_infer.client.connection.session import Session
from he_infer.client.keys.secret_key import SecretKey
from he_infer.head.layers import Head, Linear
from he_infer.local_server import LocalServer
from he_infer.server import tokens
from he_infer.server.metadata import Metadata
from he_infer.server.service import DATABASE_FILE
from he_infer.wire.key_set import new_key_set
from tests.he_infer.client.imaging import CLASSES, small_bundle, small_images
from tests.he_infer.server.support import traces
from tests.he_infer.server.support.kit import add_token

IMAGES = 3
PLACES = {"memory of the server", "memory of a worker", "disk", "database", "log", "metrics", "wire"}


@dataclass
class Flow:
    """The client's plaintexts and results of the whole flow, and the server."""

    server: LocalServer
    proxy: traces.RecordingProxy
    operator: str
    plan: Plan
    secret: SecretKey
    images: list[np.ndarray]
    names: list[str]
    features: np.ndarray
    scores: np.ndarray
    report: list[dict[str, object]]
    ciphertext: bytes
    sealed: bytes
    keys: dict[str, bytes]

    def secrets(self) -> dict[str, bytes]:
        """Fragments that must not be found anywhere."""
        found: dict[str, bytes] = {}
        for number, image in enumerate(self.images):
            found |= traces.pixels(f"pixels {number}", image)
            found |= traces.numbers(f"feature {number}", self.features[number])
            found |= traces.numbers(f"score {number}", self.scores[number])
            found[f"label {number}: report's row"] = json.dumps(self.report[number]).encode()
            found[f"label {number}: name"] = self.names[number].encode()
        whole = self.secret.to_bytes()
        return found | traces.secret_key(self.secret._raw, whole)

    def known(self) -> dict[str, bytes]:
        """Fragments that the server does hold and that must be found."""
        return {
            "sealed object": self.sealed[-96:-32],
            "ciphertext": self.ciphertext[200:264],
            "evaluation key": self.keys["relin"][5000:5064],
            "class name": CLASSES[1].encode(),
        }

    def search(self, fragments: dict[str, bytes]) -> dict[str, set[str]]:
        return traces.search(traces.places(self.server, self.proxy, self.operator), fragments)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    folder = tmp_path_factory.mktemp("blind")
    bundle = small_bundle(folder / "small.hebundle")
    paths = small_images(folder / "scans", IMAGES)
    names = [f"Rosalind-Franklin-{number}-1920-07-25.png" for number in range(IMAGES)]
    images = [np.array(Image.open(path)) for path in paths]
    with LocalServer([folder / "small.hebundle"], folder / "data", options=["--workers", "2"]) as server:
        operator = add_token(server, "operator", tokens.Scope.ADMIN)
        proxy = traces.RecordingProxy(server)
        with Session(proxy.url, server.token) as session:
            (model,) = session.models()
            plan = model.plans[0]
            secret = SecretKey.generate(plan.parameters)
            keys = secret.evaluation_keys(plan)
            key_set = new_key_set()
            session.register(plan, key_set, keys)
            features = bundle.features(images).astype(np.float64)
            answers = []
            for row in features:
                parts = secret.encrypt(pack(plan, row[None]), plan.input_scale)
                answer = session.classify(model, plan, key_set, parts)
                answers.append(unpack(plan, secret.open_answer(plan, list(answer.parts)), 1)[0])
            scores = np.array(answers)
            assert np.abs(scores - bundle.scores(features)).max() < 1e-2
            vault = VaultKey(bytes(range(32)))
            for path, name in zip(paths, names, strict=True):
                sealed = seal_bytes(path.read_bytes(), vault, name=name)
                stored = session.put_object(sealed)
                assert open_bytes(session.get_object(stored.id), vault) == path.read_bytes()
                session.get_range(stored.id, 10, 50)
            report = [
                {"image": name, "class": CLASSES[int(row.argmax())], "probability": round(float(row.max()), 4)}
                for name, row in zip(names, scores, strict=True)
            ]
        yield Flow(
            server, proxy, operator, plan, secret, images, names, features, scores, report, parts[0], sealed, keys
        )
        proxy.close()


def test_server_side_holds_no_plaintext(flow: Flow) -> None:
    hidden = flow.secrets()
    found = flow.search({**hidden, **flow.known()})
    print(f"{len(hidden)} fragments searched for in {', '.join(sorted(PLACES))}")
    # The control: what the server does hold is found where it is.
    assert found["sealed object"] >= {"disk", "wire"}
    assert "wire" in found["ciphertext"]
    assert found["evaluation key"] >= {"disk", "wire"}
    assert found["class name"] >= {"memory of the server", "memory of a worker", "wire"}
    assert {name: where for name, where in found.items() if name in hidden} == {}


def test_planted_plaintext_is_found_in_each_place(flow: Flow) -> None:
    """Mistakes that a client, a model's owner or an operator could make; runs last, since it spoils the server."""
    secrets = flow.secrets()
    kinds = ("pixels 0: bytes", "pixels 1: hex", "feature 0: <f8 at 0", "feature 1: >f4 at 0", "score 0: <f8 at 0")
    kinds += ("feature 2: <f4: base64 at 0", "score 1: text at 0", "label 0: report's row")
    kinds += ("secret key: serialized at 64", "secret key: words at 0")
    planted = {name: secrets[name] for name in kinds}
    poison = b" ".join(planted.values())
    with Session(flow.proxy.url, flow.server.token) as session:
        session.put_object(poison)  # a client that forgot to seal: disk and wire
    metadata = Metadata.sqlite(flow.server.data_dir / DATABASE_FILE)
    for number, name in enumerate(planted):  # an operator who names clients after patients: database
        text = secrets[name].decode("latin-1")
        metadata.tokens.add(f"{number}{text}"[:64], tokens.new_token(), frozenset({tokens.Scope.STORE}))
    metadata.close()
    with flow.server.log_path.open("ab") as log:  # a line of debugging left in
        log.write(poison + b"\n")
    with _half_sent(flow, poison):  # a body that is being received: memory of the server
        found = flow.search(planted)
    for name in planted:
        assert found[name] >= {"disk", "wire", "log", "memory of the server"}, name
    assert "database" in found["score 1: text at 0"]
    assert "database" in found["feature 2: <f4: base64 at 0"]


def test_a_plant_in_a_worker_and_in_the_metrics_is_found(flow: Flow, tmp_path: Path) -> None:
    """A model whose weights are a client's features: the worker holds them, as binary64."""
    bundle = small_bundle(tmp_path / "first.hebundle", seed=5)
    first, *others = bundle.head.layers
    assert isinstance(first, Linear)
    weight = np.concatenate([flow.features[1][None], first.weight[1:]])
    planted = Head((Linear(weight, flow.features[0][:8]), *others))
    bundle.with_head(planted).save(tmp_path / "planted.hebundle")
    with LocalServer([tmp_path / "planted.hebundle"], tmp_path / "data", options=["--workers", "1"]) as server:
        operator = add_token(server, "operator", tokens.Scope.ADMIN)
        proxy = traces.RecordingProxy(server)
        wanted = {
            **traces.numbers("feature 0", flow.features[0]),
            **traces.numbers("feature 1", flow.features[1]),
            "a metric": b"he_infer_requests_total",
        }
        httpx2.get(f"{server.url}/healthz")
        found = traces.search(traces.places(server, proxy, operator), wanted)
        proxy.close()
    assert "memory of a worker" in found["feature 0: <f8 at 0"]
    assert "memory of a worker" in found["feature 1: <f8 at 0"]
    assert "metrics" in found["a metric"]


@contextlib.contextmanager
def _half_sent(flow: Flow, body: bytes) -> Iterator[None]:
    host, port = flow.server.url.removeprefix("http://").split(":")
    head = (
        f"PUT /v1/keys/{flow.plan.digest}/{'0' * 32} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {flow.server.token}\r\n"
        f"Content-Length: {len(body) + 100_000}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        with contextlib.suppress(TimeoutError):  # give it the time to read what was sent
            connection.settimeout(1.0)
            connection.recv(1)
        yield
