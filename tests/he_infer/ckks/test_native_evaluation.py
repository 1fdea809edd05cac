"""Whole plans on the native engine: scores are within the plan's error, compiled and step by step."""

import numpy as np
import pytest

from he_infer.ckks import evaluate
from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.engines.native.code_cache import default_folder
from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.ckks.evaluate import Evaluator
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
