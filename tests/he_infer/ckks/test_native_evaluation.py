"""Whole plans on the native engine: scores are within the plan's error, compiled and step by step."""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.ckks import evaluate
from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.engines.native.code_cache import default_folder
from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.ckks.engines.seal import shape_of_fresh
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.fresh_ciphertext import read_fresh
from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import FormatError, MissingKey, UsageError
from he_infer.head.layers import Head
from tests.he_infer.ckks.kit import SQUARE, features, make_head

pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason="no native engine on this machine")

NATIVE = EngineChoice(default_folder())
CASES = [
    pytest.param((20, 3), SQUARE, 1, "hidden", id="linear"),
    pytest.param((20, 3), SQUARE, 5, "open", id="linear batch, open"),
    pytest.param((20, 6, 3), SQUARE, 1, "hidden", id="square"),
    pytest.param((40, 9, 4), SQUARE, 6, "hidden", id="square, batch"),
    pytest.param((20, 6, 3), (0.1, 0.5, 0.2, 0.05), 1, "open", id="cubic"),
    pytest.param((20, 6, 3), (0.1, 0.4, 0.3, 0.02, 0.05), 1, "hidden", id="quartic"),
]


def answer(plan: Plan, head: Head, x: np.ndarray, choice: EngineChoice) -> np.ndarray:
    secret, evaluator = SecretKey.generate(plan.parameters), Evaluator(plan, head, choice)
    parts = secret.evaluation_keys(plan)
    keys = evaluator.load_keys(parts) if parts else None
    sent = secret.encrypt(pack(plan, x), plan.input_scale)
    return unpack(plan, secret.open_answer(plan, evaluator.evaluate(sent, keys)), len(x))


@pytest.mark.parametrize("digits", [Digits.POSITIVE, Digits.CENTRED])
@pytest.mark.parametrize(("widths", "coefficients", "batch", "policy"), CASES)
def test_scores_err_no_more_than_predicted(
    widths: tuple[int, ...], coefficients: tuple[float, ...], batch: int, policy: str, digits: Digits
) -> None:
    head = make_head(widths, coefficients)
    plan = make_plan(head, batch=batch, policy=policy, precision=1e-2, digits=digits)
    x = features(batch, widths[0])
    found = answer(plan, head, x, NATIVE)
    if max(plan.parameters.modulus_bits) <= 50:
        assert Evaluator(plan, head, NATIVE).engine_name == "native"
        assert np.abs(found - head.evaluate(x)).max() < plan.error


def test_weights_that_are_not_kept_are_encoded_as_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "keeps_weights", lambda plan, counts: False)
    head = make_head((20, 6, 3))
    plan, x = make_plan(head, precision=1e-2), features(1, 20)
    assert np.abs(answer(plan, head, x, NATIVE) - head.evaluate(x)).max() < plan.error


def test_plan_for_centred_digits_is_refused_by_seal() -> None:
    head = make_head((20, 6, 3))
    plan = make_plan(head, precision=1e-2, digits=Digits.CENTRED)
    with pytest.raises(UsageError, match="native"):
        Evaluator(plan, head)


def test_request_that_does_not_fit_the_plan_is_refused() -> None:
    head = make_head((20, 6, 3))
    plan = make_plan(head, precision=1e-2)
    secret, evaluator = SecretKey.generate(plan.parameters), Evaluator(plan, head, NATIVE)
    keys = evaluator.load_keys(secret.evaluation_keys(plan))
    sent = secret.encrypt(pack(plan, features(1, 20)), plan.input_scale)
    with pytest.raises(FormatError, match="takes"):
        evaluator.evaluate([*sent, sent[0]], keys)
    with pytest.raises(MissingKey):
        evaluator.evaluate(sent, None)
    # A refused request must not change the next one's result.
    with pytest.raises(FormatError):
        evaluator.evaluate([sent[0][:-1], *sent[1:]], keys)
    found = unpack(plan, secret.open_answer(plan, evaluator.evaluate(sent, keys)), 1)
    assert np.abs(found - head.evaluate(features(1, 20))).max() < plan.error


class Served:
    """An honest client's request to a compiled head, and the client's own way to open the answer."""

    def __init__(self) -> None:
        self.head = make_head((20, 6, 3))
        self.plan = make_plan(self.head, precision=1e-2)
        self.secret = SecretKey.generate(self.plan.parameters)
        self.evaluator = Evaluator(self.plan, self.head, NATIVE)
        self.keys = self.evaluator.load_keys(self.secret.evaluation_keys(self.plan))
        self.shape = shape_of_fresh(self.plan.parameters, self.plan.input_scale)
        self.sent = self.secret.encrypt(pack(self.plan, features(1, 20)), self.plan.input_scale)

    def is_readable(self, part: bytes) -> bool:
        """Tell whether the reference reader, which is Python and numpy, takes a part."""
        try:
            read_fresh(part, self.shape)
        except FormatError:
            return False
        return True

    def answers_rightly(self) -> bool:
        answer = self.evaluator.evaluate(self.sent, self.keys)
        scores = unpack(self.plan, self.secret.open_answer(self.plan, answer), 1)
        return bool(np.abs(scores - self.head.evaluate(features(1, 20))).max() < self.plan.error)


@lru_cache(maxsize=1)
def serve() -> Served:
    return Served()


def mutate(data: st.DataObject, part: bytes) -> bytes:
    """Change a part as an attacker or a broken disk would: flipped bits, other lengths, moved and repeated pieces."""
    kind = data.draw(st.sampled_from(["flip", "ones", "cut", "longer", "random", "moved", "foreign", "seed", "head"]))
    at = data.draw(st.integers(0, len(part) - 1))
    length = data.draw(st.integers(1, 200))
    noise = np.random.default_rng(data.draw(st.integers(0, 2**32))).bytes
    match kind:
        case "flip":
            return part[:at] + bytes([part[at] ^ (1 << data.draw(st.integers(0, 7)))]) + part[at + 1 :]
        case "ones":  # residues above their prime
            return part[:at] + b"\xff" * len(part[at : at + 8 * length]) + part[at + 8 * length :]
        case "cut":
            return part[:at]
        case "longer":
            return part + noise(length)
        case "random":  # of the right length, so that only the residues tell
            return part[:4] + noise(len(part) - 4)
        case "moved":
            return part[:4] + part[4 + at :] + part[4 : 4 + at]
        case "foreign":
            return noise(length)
        case "seed":
            return part[:-64] + noise(64)
        case _:
            return noise(4) + part[4:]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_hostile_request_is_refused_or_computed_and_leaves_the_next_one_right(data: st.DataObject) -> None:
    served = serve()
    parts = list(served.sent)
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(parts) - 1))
        if parts[index]:
            parts[index] = mutate(data, parts[index])
    if data.draw(st.booleans()) and data.draw(st.booleans()):
        parts = parts * 2 if data.draw(st.booleans()) else parts[1:]
    readable = len(parts) == len(served.sent) and all(served.is_readable(part) for part in parts)
    if readable:
        answer = served.evaluator.evaluate(parts, served.keys)
        assert [len(part) for part in answer] == [
            len(part) for part in served.evaluator.evaluate(served.sent, served.keys)
        ]
    else:
        with pytest.raises(FormatError):
            served.evaluator.evaluate(parts, served.keys)
    assert served.answers_rightly()
