"""Frozen plans, ciphertexts and keys of this format stay readable, and those of another SEAL are refused."""

import base64
import json

import numpy as np
import pytest

from he_infer.ckks.engines.seal import SealEngine, shape_of_fresh
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.fresh_ciphertext import read_fresh, write_fresh
from he_infer.ckks.layouts.ring import galois_element
from he_infer.ckks.packing import unpack
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.ckks.seal_format import SEAL_VERSION
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import NotThisFormat, UnsupportedVersion
from tests.he_infer.ckks.freeze import FILE, SCALE, SMALL, STEP
from tests.he_infer.ckks.kit import features, make_head

FROZEN = json.loads(FILE.read_text(encoding="ascii"))


def read(text: str) -> bytes:
    return base64.b85decode(text)


def test_vectors_were_written_by_the_seal_of_this_release() -> None:
    assert FROZEN["seal"] == list(SEAL_VERSION)


def test_frozen_plans_are_read_and_written_unchanged() -> None:
    for text in (*FROZEN["plans"], *FROZEN["made"]):
        assert Plan.from_json(text).to_json() == text


def test_planner_makes_the_frozen_plans_again() -> None:
    linear, deep = make_head((20, 3)), make_head((20, 6, 3))
    again = [make_plan(linear), make_plan(deep), make_plan(deep, batch=3, policy="open")]
    for text, made in zip(FROZEN["made"], again, strict=True):
        plan = Plan.from_json(text)
        # The predicted error may differ in its last digit between versions of numpy; everything else must be equal.
        assert plan == made
        assert plan.error == pytest.approx(made.error)


def test_a_frozen_request_is_computed_under_its_frozen_key() -> None:
    frozen, head = FROZEN["linear"], make_head((20, 3))
    plan = Plan.from_json(FROZEN["plans"][0])
    secret, evaluator = SecretKey.from_bytes(read(frozen["secret"])), Evaluator(plan, head)
    keys = evaluator.load_keys({"public": read(frozen["public"])})
    answer = evaluator.evaluate([read(part) for part in frozen["request"]], keys)
    scores = unpack(plan, secret.open_answer(plan, answer), 1)
    assert np.abs(scores - head.evaluate(features(1, 20))).max() < plan.precision


def test_a_frozen_answer_is_opened_with_its_frozen_key() -> None:
    frozen, head = FROZEN["linear"], make_head((20, 3))
    plan = Plan.from_json(FROZEN["plans"][0])
    opened = SecretKey.from_bytes(read(frozen["secret"])).open_answer(plan, [read(part) for part in frozen["answer"]])
    scores = unpack(plan, opened, 1)
    assert np.abs(scores - head.evaluate(features(1, 20))).max() < plan.precision


def test_an_answer_of_another_version_is_refused_by_name() -> None:
    plan = Plan.from_json(FROZEN["plans"][0])
    secret = SecretKey.from_bytes(read(FROZEN["linear"]["secret"]))
    data = bytearray(read(FROZEN["linear"]["answer"][0]))
    data[3] = 1
    with pytest.raises(UnsupportedVersion, match="version 1; this release reads 2"):
        secret.open_answer(plan, [bytes(data)])


def test_frozen_keys_rotate_and_multiply() -> None:
    frozen, engine = FROZEN["keys"], SealEngine(SMALL)
    secret = SecretKey.from_bytes(read(frozen["secret"]))
    parts = {name: read(frozen[name]) for name in ("galois", "relin")}
    keys = engine.load_keys(parts, (galois_element(STEP, SMALL.ring_size),), relinearise=True)
    value = engine.load(read(frozen["ciphertext"]), SCALE)
    slots = np.random.default_rng(3).normal(size=SMALL.slots)
    for found, wanted in (
        (engine.rotate(value, STEP, keys), np.roll(slots, -STEP)),
        (engine.square(value, keys), slots**2),
    ):
        assert np.abs(secret.decrypt([engine.dump(found)])[0] - wanted).max() < 3e-2


@pytest.mark.parametrize("part", ["galois", "relin"])
def test_keys_of_another_seal_are_refused_by_name(part: str) -> None:
    data = bytearray(read(FROZEN["keys"][part]))
    data[4] += 1
    engine, elements = SealEngine(SMALL), (galois_element(STEP, SMALL.ring_size),)
    keys = {name: read(FROZEN["keys"][name]) for name in ("galois", "relin")} | {part: bytes(data)}
    with pytest.raises(UnsupportedVersion, match=r"written by SEAL 4\.4; this release reads 4\.3"):
        engine.load_keys(keys, elements, relinearise=True)


def test_ciphertext_of_another_version_is_refused_by_name() -> None:
    data = bytearray(read(FROZEN["keys"]["ciphertext"]))
    data[3] = 3
    with pytest.raises(UnsupportedVersion, match="version 3; this release reads 2"):
        SealEngine(SMALL).load(bytes(data), SCALE)


def test_frozen_ciphertext_is_written_unchanged() -> None:
    data = read(FROZEN["keys"]["ciphertext"])
    shape = shape_of_fresh(SMALL, SCALE)
    assert write_fresh(read_fresh(data, shape), shape) == data


def test_truncated_bytes_are_refused() -> None:
    data = read(FROZEN["keys"]["ciphertext"])
    for cut in (0, 8, 16, len(data) - 1):
        with pytest.raises(NotThisFormat):
            SealEngine(SMALL).load(data[:cut], SCALE)
