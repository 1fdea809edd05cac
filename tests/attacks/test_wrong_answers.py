"""Answers that are not the head's scores under this key are refused.

Before answers were bound to key sets, ranges and test questions, each case gave wrong labels without an error, or could
have given them.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from he_infer import Client
from he_infer.ckks.answer import write_answer
from he_infer.ckks.engines.seal import primes
from he_infer.ckks.planning.plan import Plan
from he_infer.client import run
from he_infer.client.connection.connection import Connection
from he_infer.client.connection.session import Session
from he_infer.client.console.desk import Desk
from he_infer.client.console.history import History
from he_infer.client.key_registration import prove_keys, register_keys
from he_infer.client.keys.key_file import KeyFile
from he_infer.client.model import ClientModel
from he_infer.client.served_model import ServedModel
from he_infer.client.verify.answer import Answer
from he_infer.errors import (
    HeInferError,
    MissingKey,
    NotAuthentic,
    ProtocolMismatch,
    ServerError,
    UsageError,
    WrongAnswer,
)
from he_infer.head.bundle_file import BundleFile
from he_infer.local_server import LocalServer
from he_infer.owner.publish import publish
from he_infer.publication.parts import ServerPart
from he_infer.server.workers.models import ModelHost
from tests.he_infer.client.imaging import small_bundle, small_images

WORDS = "correct horse battery staple"


@dataclass(frozen=True)
class Hospital:
    """Two departments of a hospital: each has a key file; they share a token and a model."""

    server: LocalServer
    part: Path
    served: Path
    whole: Path
    keys: tuple[Path, Path]
    images: list[Path]
    labels: list[str]

    def client(self, key: Path | None = None, **options: Any) -> Client:
        return Client(
            self.server.url,
            model=options.pop("model", self.part),
            key=key or self.keys[0],
            passphrase=WORDS,
            token=self.server.token,
            patience=1.0,
            **options,
        )


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    whole = folder / "small.hebundle"
    bundle = small_bundle(whole)
    published = publish(BundleFile.load(whole), Ed25519PrivateKey.generate(), batches=(1, 16))
    part, served = folder / "small.client.hebundle", folder / "small.server.hebundle"
    published.client.save(part)
    published.server.save(served)
    images = small_images(folder / "scans", 6)
    with LocalServer([served], folder / "data", options=["--workers", "1"]) as server:
        model = ClientModel.load(part)
        paths = folder / "a.key", folder / "b.key"
        with Session(server.url, server.token) as session:
            offer = model.expect(session.models())
            for path in paths:
                keys = KeyFile.new(offer.plans, server_key=session.server_key, publisher=model.publisher)
                keys.save(path, WORDS)
                register_keys(session, keys)
                assert prove_keys(session, keys, model, offer) == 9
        from models.images.load import load_image

        scores = bundle.scores(bundle.features([load_image(path) for path in images]))
        labels = [bundle.classes[index] for index in scores.argmax(axis=1)]
        yield Hospital(server, part, served, whole, paths, images, labels)


def test_each_department_gets_its_own_labels_after_the_other_registered(hospital: Hospital) -> None:
    for key in (*hospital.keys, hospital.keys[0]):
        with hospital.client(key) as client:
            results = client.classify(hospital.images)
        assert [result.label for result in results] == hospital.labels
        assert {result.receipt.key_set for result in results if result.receipt} == {KeyFile.load(key, WORDS).key_set}


def test_an_answer_under_keys_of_another_department_is_refused(hospital: Hospital, tmp_path: Path) -> None:
    """The key file names the other department's key set, as if the server had mixed up two sets of keys."""
    mine, other = (KeyFile.load(path, WORDS) for path in hospital.keys)
    crossed = tmp_path / "crossed.key"
    replace(mine, key_set=other.key_set).save(crossed, WORDS)
    with hospital.client(crossed) as client, pytest.raises(WrongAnswer, match=r"key file.*key set.*server") as caught:
        client.classify(hospital.images)
    assert len(caught.value.receipts) == 1  # it stopped at the first request
    with hospital.client(crossed, canaries=0) as client, pytest.raises(WrongAnswer):
        client.classify(hospital.images)


def test_an_unregistered_key_set_is_refused_by_name(hospital: Hospital, tmp_path: Path) -> None:
    stray = tmp_path / "stray.key"
    replace(KeyFile.load(hospital.keys[0], WORDS), key_set="0" * 32).save(stray, WORDS)
    with hospital.client(stray) as client, pytest.raises(MissingKey, match="0" * 32):
        client.classify(hospital.images)


Forge = Callable[[Answer, Plan], Answer]


def forged(monkeypatch: pytest.MonkeyPatch, forge: Forge, *, spare_first: bool = False) -> None:
    """Let the server, which can sign anything, give forged answers."""
    honest = Session.classify
    seen: list[int] = []

    def classify(self: Session, model: ServedModel, plan: Plan, key_set: str, parts: Any) -> Answer:
        answer = honest(self, model, plan, key_set, parts)
        seen.append(1)
        return answer if spare_first and len(seen) == 1 else forge(answer, plan)

    monkeypatch.setattr(Session, "classify", classify)


def noise(answer: Answer, plan: Plan) -> Answer:
    """Make random polynomials in the exact form of an answer."""
    rng = np.random.default_rng(9)
    prime, size = primes(plan.parameters)[0], plan.parameters.ring_size
    parts = tuple(
        write_answer(plan, target, rng.integers(0, prime, (2, size), dtype=np.uint64), prime)
        for target in range(plan.targets)
    )
    return replace(answer, parts=parts)


def add_to_scores(answer: Answer, plan: Plan) -> Answer:
    """Change one byte of an honest answer's numbers: another score under the right key."""
    part = bytearray(answer.parts[0])
    part[-3] ^= 0x40
    return replace(answer, parts=(bytes(part), *answer.parts[1:]))


@pytest.mark.parametrize("canaries", [None, 0])
def test_random_answers_are_refused(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, canaries: float | None
) -> None:
    forged(monkeypatch, noise)
    with hospital.client(canaries=canaries) as client, pytest.raises(HeInferError) as caught:
        client.classify(hospital.images)
    assert isinstance(caught.value, WrongAnswer)


def test_an_honest_answer_with_a_changed_number_is_refused(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ciphertexts are malleable: a server can add to scores without knowing them."""
    forged(monkeypatch, add_to_scores)
    with hospital.client() as client, pytest.raises(WrongAnswer):
        client.classify(hospital.images)


def test_random_answers_after_an_honest_first_one_end_the_run(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    many = small_images(tmp_path / "many", 40)
    forged(monkeypatch, noise, spare_first=True)
    with hospital.client(in_flight=1) as client, pytest.raises(WrongAnswer) as caught:
        client.classify(many)
    assert len(caught.value.receipts) == 3  # all were asked: a server must not learn which answer was refused


@pytest.mark.parametrize("stopped", [False, True], ids=["ended", "stopped"])
def test_the_page_withdraws_results_before_an_untrustworthy_answer(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stopped: bool
) -> None:
    """The first request is answered rightly, the second with noise; then the run ends, or its user stops it."""
    desks: list[Desk] = []

    def ruin(answer: Answer, plan: Plan) -> Answer:
        if stopped:
            desks[0].cancel()
        return noise(answer, plan)

    forged(monkeypatch, ruin, spare_first=True)
    history = History(tmp_path / "history", bytes(32))
    with hospital.client(in_flight=1) as client:
        desk = Desk(history, client)
        desks.append(desk)
        try:
            for image in small_images(tmp_path / "many", 40):
                shutil.copy(image, path := desk.new_file(image.name))
                desk.add(image.name, path)
            desk.send()
            while desk.job is not None and desk.job.running:
                time.sleep(0.05)
            assert desk.job is not None
            assert "trusted" in desk.job.problem
            assert not any(item.result for item in desk.items)
            assert len(history) == 0
        finally:
            desk.close()


def test_the_answer_to_a_full_request_is_refused_for_one_with_rows_to_spare(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its scores are in range and open under the key, and no test question is in it: the rows to spare show it."""
    first: list[tuple[bytes, ...]] = []

    def repeat(answer: Answer, plan: Plan) -> Answer:
        first.append(answer.parts)
        return replace(answer, parts=first[0])

    forged(monkeypatch, repeat)
    images = small_images(tmp_path / "many", 17)
    with hospital.client(canaries=0, in_flight=1) as client, pytest.raises(WrongAnswer, match="do not open"):
        client.classify(images)
    assert len(first) == 2


@pytest.mark.parametrize("seed", range(3))
def test_the_answer_to_a_full_request_is_refused_for_another_full_request(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    """The key set is the same, the scores are in range, and no row is to spare: the kept row's question shows it."""
    first: list[tuple[bytes, ...]] = []

    def repeat(answer: Answer, plan: Plan) -> Answer:
        first.append(answer.parts)
        return replace(answer, parts=first[len(first) > 1 and -2])

    forged(monkeypatch, repeat)
    # Both requests draw their places and questions from it: by chance one pair in a hundred agrees.
    monkeypatch.setattr(run, "system_generator", lambda: np.random.default_rng(seed))
    with hospital.client(in_flight=1) as client, pytest.raises(WrongAnswer, match="test questions"):
        client.classify(small_images(tmp_path / "many", 30))
    assert len(first) == 2


def test_full_requests_are_believed_where_every_answer_is_its_own(hospital: Hospital, tmp_path: Path) -> None:
    with hospital.client(in_flight=1) as client:
        results = client.classify(small_images(tmp_path / "many", 30))
    assert all(result.classified for result in results)
    assert len({result.receipt.request for result in results if result.receipt}) == 2


def test_an_answer_that_cannot_be_parsed_is_an_error(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    forged(monkeypatch, lambda answer, _: replace(answer, parts=(b"\x00" * 100,) * len(answer.parts)))
    with hospital.client() as client, pytest.raises(HeInferError):
        client.classify(hospital.images)


def test_an_answer_replayed_for_another_request_is_refused(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server gives a signed, honest answer again for the next request."""
    honest = Connection.send
    kept: list[Any] = []

    def send(self: Connection, *arguments: Any, **named: Any) -> Any:
        sent, response = honest(self, *arguments, **named)
        kept.append(response)
        return sent, kept[0]

    with hospital.client() as client:
        client.classify(hospital.images)
        monkeypatch.setattr(Connection, "send", send)
        client.classify(hospital.images[:1])
        with pytest.raises(NotAuthentic, match="another request"):
            client.classify(hospital.images)


def test_an_answer_to_another_client_is_refused(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipt of one department's answer names its key set, and its request."""
    with hospital.client(hospital.keys[1]) as other:
        sent: list[Any] = []
        honest = Connection.send

        def keep(self: Connection, *arguments: Any, **named: Any) -> Any:
            sent.append(honest(self, *arguments, **named))
            return sent[-1]

        monkeypatch.setattr(Connection, "send", keep)
        other.classify(hospital.images)
    monkeypatch.setattr(Connection, "send", lambda *_, **__: sent[0])
    with hospital.client() as client, pytest.raises(NotAuthentic, match="another key set"):
        client.classify(hospital.images)


def offering(monkeypatch: pytest.MonkeyPatch, change: Callable[[ServedModel], ServedModel]) -> None:
    honest = Session.models
    monkeypatch.setattr(Session, "models", lambda self: [change(model) for model in honest(self)])


OFFERS: dict[str, tuple[Callable[[ServedModel], ServedModel], type[HeInferError]]] = {
    "a precision of 1e-18": (
        lambda m: replace(m, plans=tuple(replace(plan, precision=1e-18) for plan in m.plans)),
        ProtocolMismatch,
    ),
    "a plan less": (lambda m: replace(m, plans=m.plans[:1]), ProtocolMismatch),
    "a wider bound": (lambda m: replace(m, input_bound=2.0), ProtocolMismatch),
    "an open policy": (lambda m: replace(m, policy="open"), ProtocolMismatch),
    "other classes": (lambda m: replace(m, classes=m.classes[::-1]), ProtocolMismatch),
    "another head under its name": (lambda m: replace(m, head_digest="0" * 64), NotAuthentic),
    "another head under another id": (lambda m: replace(m, id="small-chest-00000000"), NotAuthentic),
    "no such model": (lambda m: replace(m, id="other", name="other"), UsageError),
}


@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_other_than_the_published_one_is_refused(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    change, error = OFFERS[name]
    offering(monkeypatch, change)
    monkeypatch.setattr(Session, "classify", lambda *_: pytest.fail("something was sent"))
    with hospital.client() as client, pytest.raises(error):
        client.classify(hospital.images)


def test_a_server_with_another_signing_key_is_refused_with_both_named(hospital: Hospital, tmp_path: Path) -> None:
    with LocalServer([hospital.served], tmp_path / "data", options=["--workers", "1"]) as impostor:
        key = tmp_path / "k.key"
        keys = KeyFile.load(hospital.keys[0], WORDS)
        keys.save(key)
        there = {"model": hospital.part, "key": key, "passphrase": WORDS, "token": impostor.token}
        with (
            Client(impostor.url, **there) as client,
            pytest.raises(NotAuthentic, match="accept-new-server-key") as caught,
        ):
            client.classify(hospital.images)
        assert keys.server_key is not None
        assert keys.server_key in str(caught.value)
        with Session(impostor.url, impostor.token) as session:
            stated = session.server_key
            register_keys(session, keys)
        assert stated in str(caught.value)
        with Client(impostor.url, **there, accept_new_server_key=True) as client:
            assert [result.label for result in client.classify(hospital.images)] == hospital.labels
        with Client(impostor.url, **there) as client:  # it is pinned from now on
            client.classify(hospital.images[:1])


def test_a_model_of_another_publisher_is_refused(hospital: Hospital, tmp_path: Path) -> None:
    published = publish(BundleFile.load(hospital.whole), Ed25519PrivateKey.generate(), batches=(1,))
    other = tmp_path / "other.client.hebundle"
    published.client.save(other)
    with pytest.raises(NotAuthentic, match="published by"):
        hospital.client(model=other)


def test_an_unpublished_model_is_not_served(hospital: Hospital, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="published"):
        ModelHost([hospital.served], (64,), None, 1 << 20)
    with pytest.raises(UsageError, match="published"):
        ModelHost([hospital.served], None, 0.5, 1 << 20)
    with pytest.raises(HeInferError, match="client's part"):
        ModelHost([hospital.part], None, None, 1 << 20)
    changed = tmp_path / "changed.server.hebundle"
    part = ServerPart.load(hospital.served)
    BundleFile({**part.file.description, "plans": part.file.description["plans"][:1]}, part.file.tensors).save(changed)
    with pytest.raises(NotAuthentic):
        ModelHost([changed], None, None, 1 << 20)


def test_a_server_that_fails_midway_leaves_rows_with_its_reason(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(answer: Answer, plan: Plan) -> Answer:
        raise ServerError("The server's worker died.")

    forged(monkeypatch, fail, spare_first=True)
    many = small_images(tmp_path / "many", 40)
    with hospital.client(in_flight=1) as client:
        results = client.classify(many)
    assert len(results) == 40
    assert 0 < sum(result.classified for result in results) < 40
    assert all("worker died" in str(result.refusal) for result in results if not result.classified)


def test_no_result_holds_a_score(hospital: Hospital) -> None:
    with hospital.client() as client:
        results = client.classify(hospital.images)
    for result in results:
        for value in result.probabilities.values():
            assert round(value, 3) == value
