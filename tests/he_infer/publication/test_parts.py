"""A model's two parts: their content, their common signature, and the refusal of every change."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.engines.native.code_cache import default_folder
from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.errors import (
    DamagedBundle,
    HeadError,
    HeInferError,
    NotAuthentic,
    NotThisFormat,
    ParameterError,
    UsageError,
)
from he_infer.head.bundle_file import BundleFile, describe
from he_infer.head.layers import Head, Linear, Polynomial
from he_infer.head.score_bounds import bound_scores
from he_infer.owner.publish import Published, publish
from he_infer.publication import parts
from he_infer.publication.parts import ANSWERS, QUESTIONS, ClientPart, ServerPart, hash_tensors, sign
from he_infer.server.workers.models import ModelHost

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CLASSES = ("nothing of note", "ground-glass opacity", "consolidation")
VECTOR = Path(__file__).parents[2] / "vectors" / "bundle-parts-v3.json"


def make_head(seed: int = 1) -> Head:
    rng = np.random.default_rng(seed)
    first = Linear(rng.normal(0, 0.3, (8, 32)), rng.normal(0, 0.1, 8))
    return Head((first, Polynomial((0.0, 0.0, 1.0)), Linear(rng.normal(0, 0.5, (3, 8)), rng.normal(0, 0.1, 3))))


def make_whole(head: Head | None = None) -> BundleFile:
    head = head or make_head()
    extractor = {"extractor.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "extractor.count": np.array(7)}
    described = {**describe("Small chest", CLASSES, "hidden", 1.0, head), "training": {"data": {"digest": "d"}}}
    described |= {"preprocessing": {"version": 1}, "extractor": {"kind": "cnn"}, "versions": {"python": "3"}}
    return BundleFile(described, {**head.to_tensors()[0], **extractor})


@pytest.fixture(scope="module")
def published() -> Published:
    return publish(make_whole(), KEY, batches=(1, 16), rng=np.random.default_rng(5))


@pytest.fixture
def files(published: Published, tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "m.client.hebundle", tmp_path / "m.server.hebundle"
    published.client.save(paths[0])
    published.server.save(paths[1])
    return paths


def test_each_part_holds_its_own_half_and_names_the_other(files: tuple[Path, Path]) -> None:
    client, server = ClientPart.load(files[0]), ServerPart.load(files[1])
    assert client.publication == server.publication
    assert client.publication.head == server.file.head.digest == make_head().digest
    assert not any(name.startswith("head.") for name in client.file.tensors)
    assert all(name.startswith("head.") for name in server.file.tensors)
    assert [plan.batch for plan in client.plans] == [plan.batch for plan in server.plans] == [1, 16]
    for member in ("extractor", "preprocessing", "training", "score_bounds"):
        assert member not in server.file.description
    for member in ("head", "training"):
        assert member not in client.file.description
    weights = make_head().to_tensors()[0]
    content = files[0].read_bytes()
    assert not any(row.tobytes() in content for tensor in weights.values() for row in tensor)


def test_the_questions_and_their_answers_fit_the_head(published: Published, files: tuple[Path, Path]) -> None:
    part = ClientPart.load(files[0])
    assert part.questions.shape == (8, 32)
    assert not part.questions[0].any()
    np.testing.assert_allclose(part.answers, make_head().evaluate(part.questions), atol=1e-4)
    assert all(error <= plan.precision for error, plan in zip(published.trial_errors, published.plans, strict=True))
    assert (part.score_bounds[:, 0] <= part.answers.min(axis=0)).all()
    assert (part.score_bounds[:, 1] >= part.answers.max(axis=0)).all()


def test_questions_look_like_training_images_where_their_distribution_is_known() -> None:
    whole = make_whole()
    mean = np.linspace(-0.5, 0.5, 32).astype(np.float32)
    guard = {"guard.mean": mean, "guard.directions": np.eye(2, 32, dtype=np.float32)}
    guard["guard.variances"] = np.array([0.01, 0.01, 1e-4], dtype=np.float32)
    made = publish(
        BundleFile(whole.description, {**whole.tensors, **guard}), KEY, batches=(1,), rng=np.random.default_rng(5)
    )
    questions = made.client.tensors[QUESTIONS]
    assert not questions[0].any()
    assert np.abs(questions[1:] - mean).max() < 0.5
    assert np.abs(questions[1:, 2:] - mean[2:]).max() < 0.06


def test_every_kind_of_bundle_names_its_head(files: tuple[Path, Path], tmp_path: Path) -> None:
    whole = tmp_path / "m.hebundle"
    make_whole().save(whole)
    assert {parts.read_head_digest(path) for path in (*files, whole)} == {make_head().digest}


def change(file: BundleFile, **members: Any) -> BundleFile:
    return BundleFile({**file.description, **members}, file.tensors)


CHANGES: dict[str, Callable[[BundleFile], BundleFile]] = {
    "a wider score range": lambda file: change(file, score_bounds=[[-1e9, 1e9]] * 3),
    "another order of classes": lambda file: change(file, classes=list(CLASSES[::-1])),
    "another bound": lambda file: change(file, input_bound=2.0),
    "a plan less": lambda file: change(file, plans=file.description["plans"][:1]),
    "a plan of less precision": lambda file: change(
        file, plans=[make_plan(make_head(), precision=0.1, input_bound=1.0).to_json()]
    ),
    "another publisher": lambda file: change(
        file, publication={**file.description["publication"], "publisher": "ab" * 32}
    ),
    "another counterpart": lambda file: change(
        file, publication={**file.description["publication"], "server": "0" * 64}
    ),
    "another signature": lambda file: change(file, signature="00" * 64),
    "a signature that is no hex": lambda file: change(file, signature="zz"),
    "other answers": lambda file: BundleFile(file.description, {**file.tensors, ANSWERS: file.tensors[ANSWERS] + 1.0}),
    "other answers with their hash": lambda file: BundleFile(
        {**file.description, "tensors": hash_tensors({**file.tensors, ANSWERS: file.tensors[ANSWERS] + 1.0})},
        {**file.tensors, ANSWERS: file.tensors[ANSWERS] + 1.0},
    ),
    "an extractor's weight": lambda file: BundleFile(
        file.description, {**file.tensors, "extractor.weight": file.tensors["extractor.weight"] + np.float32(1)}
    ),
    "another shape": lambda file: BundleFile(
        file.description, {**file.tensors, "extractor.weight": file.tensors["extractor.weight"].reshape(3, 2)}
    ),
    "a tensor more": lambda file: BundleFile(file.description, {**file.tensors, "more": np.zeros(1)}),
    "a tensor less": lambda file: BundleFile(
        file.description, {name: value for name, value in file.tensors.items() if name != "extractor.weight"}
    ),
    "another name": lambda file: change(file, name="Large chest"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_client_part_is_refused(name: str, published: Published, tmp_path: Path) -> None:
    path = tmp_path / "changed.client.hebundle"
    CHANGES[name](published.client).save(path)
    with pytest.raises(NotAuthentic, match=r"changed\.client"):
        ClientPart.load(path)


@pytest.mark.parametrize("name", ["a plan less", "a plan of less precision", "another publisher", "another bound"])
def test_changed_server_part_is_refused(name: str, published: Published, tmp_path: Path) -> None:
    path = tmp_path / "changed.server.hebundle"
    CHANGES[name](published.server).save(path)
    with pytest.raises(NotAuthentic, match=r"changed\.server"):
        ServerPart.load(path)


def test_server_part_with_other_head_is_refused(published: Published, tmp_path: Path) -> None:
    path = tmp_path / "other.server.hebundle"
    other = make_head(2).to_tensors()[0]
    BundleFile({**published.server.description, "tensors": hash_tensors(other)}, other).save(path)
    with pytest.raises(NotAuthentic):
        ServerPart.load(path)


def test_part_in_place_of_whole_bundle_is_refused_by_name(files: tuple[Path, Path], tmp_path: Path) -> None:
    whole = tmp_path / "m.hebundle"
    make_whole().save(whole)
    for load, path in ((ClientPart.load, files[1]), (ServerPart.load, files[0])):
        with pytest.raises(NotThisFormat, match="expected the"):
            load(path)
    with pytest.raises(NotThisFormat, match="he-infer publish"):
        ClientPart.load(whole)
    with pytest.raises(NotThisFormat, match="only a whole bundle"):
        publish(BundleFile.load(files[0]), KEY)


def test_a_signed_part_that_contradicts_itself_is_refused(published: Published, tmp_path: Path) -> None:
    path = tmp_path / "odd.client.hebundle"
    for members in (
        {"score_bounds": [[0.0, 1.0]] * 2},
        {"score_bounds": [[1.0, 0.0]] * 3},
        {"plans": []},
        {"plans": ["{}"]},
        {"plans": published.client.description["plans"][::-1]},
    ):
        client, _ = sign(change(published.client, **members), published.server, KEY)
        client.save(path)
        with pytest.raises(DamagedBundle):
            ClientPart.load(path)
    tensors = {**published.client.tensors, QUESTIONS: published.client.tensors[QUESTIONS] * 100}
    client, _ = sign(
        BundleFile({**published.client.description, "tensors": hash_tensors(tensors)}, tensors), published.server, KEY
    )
    client.save(path)
    with pytest.raises(DamagedBundle):
        ClientPart.load(path)


def test_a_plan_that_fails_under_encryption_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    from he_infer.ckks.evaluate import Evaluator

    honest = Evaluator.evaluate
    monkeypatch.setattr(Evaluator, "evaluate", lambda self, parts, keys: honest(self, parts[::-1], keys)[::-1])
    monkeypatch.setattr("he_infer.owner.publish.open_scores", lambda *_: np.full((1, 3), 1e6))
    with pytest.raises(HeadError, match="under encryption"):
        publish(make_whole(), KEY, batches=(1,))


def test_both_files_are_frozen(tmp_path: Path) -> None:
    """The two files have the bytes of docs/bundle.md: readers of this version must always read them."""
    vector = json.loads(VECTOR.read_text(encoding="utf-8"))
    for name, load in (("client", ClientPart.load), ("server", ServerPart.load)):
        path = tmp_path / f"v.{name}.hebundle"
        path.write_bytes(base64.b64decode(vector[name]))
        part = load(path)
        assert part.publication.to_json() == vector["publication"]
        assert part.publication.message.hex() == vector["message"]
        assert parts.digest(part.file) == vector["publication"][name]
        assert part.file.to_bytes() == path.read_bytes()
        signature = part.file.description["signature"]
        assert KEY.sign(part.publication.message).hex() == signature


def test_bounds_hold_for_random_features_and_heads() -> None:
    rng = np.random.default_rng(3)
    for seed, polynomial in enumerate([(0.0, 0.0, 1.0), (0.5, -1.0, 2.0), (0.1, 1.0, -0.3, 0.4), None]):
        if polynomial is None:
            head = Head((Linear(rng.normal(size=(3, 16)), rng.normal(size=3)),))
        else:
            layers = make_head(seed).layers
            head = Head((layers[0], Polynomial(polynomial), layers[2]))
        bounds = bound_scores(head, 2.0)
        corners = np.sign(rng.normal(size=(2000, head.width))) * 2.0
        inside = rng.uniform(-2.0, 2.0, (2000, head.width))
        scores = head.evaluate(np.concatenate([corners, inside]))
        assert (scores >= bounds[:, 0]).all()
        assert (scores <= bounds[:, 1]).all()


def test_a_linear_head_reaches_its_bounds() -> None:
    head = Head((Linear(np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 0.0]]), np.array([0.25, -1.0])),))
    np.testing.assert_allclose(bound_scores(head, 2.0), [[-6.75, 7.25], [-3.0, 1.0]])


def test_a_wrong_number_of_questions_is_refused() -> None:
    for count in (1, 65):
        with pytest.raises(HeInferError, match="canary questions"):
            publish(make_whole(), KEY, batches=(1,), questions=count)


@pytest.mark.skipif(find_obstacle() is not None, reason="no native engine on this machine")
def test_plan_published_for_the_native_engine_is_tried_on_it_and_refused_by_a_server_with_seal(tmp_path: Path) -> None:
    native = EngineChoice(default_folder())
    made = publish(make_whole(), KEY, batches=(1,), engine=native, rng=np.random.default_rng(5))
    assert [plan.digits for plan in made.plans] == [Digits.CENTRED]
    assert made.trial_errors[0] <= made.plans[0].precision
    path = tmp_path / "m.server.hebundle"
    made.server.save(path)
    assert ModelHost([path], None, None, 1 << 20, native).describe()[0].plans[0].digest == made.plans[0].digest
    with pytest.raises(UsageError, match="--engine native"):
        ModelHost([path], None, None, 1 << 20)


def test_plans_for_any_engine_are_the_default(published: Published) -> None:
    assert {plan.digits for plan in published.plans} == {Digits.POSITIVE}


ODD = (float("nan"), float("inf"), -1, 0, -1.5, 1e300, 10**400, 2**63, "", [], {}, None, True, "\ud800", [[[]]])
"""Values that a damaged or hostile file may have in any place."""


def list_places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield place
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from list_places(member, (*place, name))


def put(value: Any, place: tuple[str | int, ...], odd: Any) -> Any:
    if not place:
        return odd
    changed = json.loads(json.dumps(value))
    holder = changed
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = odd
    return changed


def test_odd_values_anywhere_in_a_part_are_refused_in_one_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for source, load in zip(files, (ClientPart.load, ServerPart.load), strict=True):
        raw = source.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
        described = json.loads(header["__metadata__"]["he_infer_bundle"])
        path = tmp_path / source.name
        for place in list_places(described):
            odd = ODD[rng.integers(len(ODD))]
            header["__metadata__"]["he_infer_bundle"] = json.dumps(put(described, place, odd))
            text = json.dumps(header).encode()
            path.write_bytes(len(text).to_bytes(8, "little") + text + data)
            with pytest.raises((HeInferError, OSError)) as refused:
                load(path)
            assert "\n" not in str(refused.value)


def test_odd_values_anywhere_in_a_plan_are_refused_although_they_are_signed() -> None:
    plan = json.loads(make_plan(make_head(), input_bound=1.0).to_json())
    for place in list_places(plan):
        for odd in ODD:
            text = json.dumps(put(plan, place, odd))
            if text == json.dumps(plan):
                continue  # the plan's own value
            with pytest.raises(HeInferError):
                Plan.from_json(text)


def test_a_plan_whose_scale_exceeds_its_modulus_is_refused() -> None:
    plan = json.loads(make_plan(make_head(), input_bound=1.0).to_json())
    bits = sum(plan["modulus_bits"][:-1])
    for name in ("input_scale", "output_scale", "gain"):
        with pytest.raises(ParameterError, match="contradicts itself"):
            Plan.from_json(json.dumps({**plan, name: 2.0**bits}))
