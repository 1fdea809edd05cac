"""Every kind of plan on both engines: scores within the predicted error, for any shape, degree, batch and policy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from he_infer.ckks.planning.noise import WORST, WORST_OF_UNKNOWN
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.ckks.simulate import simulate
from he_infer.head.layers import Head, Linear, Polynomial
from tests.he_infer.ckks.kit import ENGINES, SQUARE, features, make_head, on_seal

CUBIC = (0.1, 0.5, 0.2, 0.05)
QUARTIC = (0.1, 0.5, 0.2, 0.05, 0.02)
CASES = {
    "linear": ((512, 10), SQUARE, 1, 1.0),
    "one score": ((17, 1), SQUARE, 1, 1.0),
    "wider than a ring": ((4096, 100), SQUARE, 1, 1.0),
    "linear, 64 images": ((100, 7), SQUARE, 64, 1.0),
    "mlp": ((512, 64, 10), SQUARE, 1, 1.0),
    "mlp, degree 2 with all terms": ((37, 20, 7), (1.0, 0.5, 0.3), 1, 1.0),
    "mlp, 12 images": ((40, 16, 3), SQUARE, 12, 1.0),
    "mlp, degree 3": ((33, 9, 2), CUBIC, 1, 1.0),
    "mlp, degree 4": ((33, 9, 2), QUARTIC, 1, 1.0),
    "two hidden layers": ((50, 24, 12, 3), SQUARE, 1, 1.0),
    "more hidden values than inputs": ((16, 200, 4), SQUARE, 1, 1.0),
    "sparse": ((256, 256, 5), SQUARE, 1, 0.01),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("policy", ["hidden", "open"])
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_head(case: str, policy: str, engine: str) -> None:
    widths, coefficients, batch, keep = CASES[case]
    head = make_head(widths, coefficients, keep=keep)
    plan = make_plan(head, batch=batch, policy=policy)
    assert Plan.from_json(plan.to_json()) == plan
    x = features(batch, widths[0])
    found = ENGINES[engine](plan, head, x)
    assert np.abs(found - head.evaluate(x)).max() <= plan.error <= plan.precision


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    width=st.integers(16, 300),
    hidden=st.lists(st.integers(1, 70), max_size=2),
    classes=st.integers(1, 20),
    batch=st.sampled_from([1, 1, 2, 5, 33]),
    keep=st.sampled_from([1.0, 0.2]),
    seed=st.integers(0, 1000),
)
def test_every_packing_is_the_matrix_product(
    width: int, hidden: list[int], classes: int, batch: int, keep: float, seed: int
) -> None:
    head = make_head((width, *hidden, classes), seed=seed, keep=keep)
    plan = make_plan(head, batch=batch, precision=1e-2)
    x = features(batch, width, seed=seed)
    exact = simulate(plan, head, x, seed=None)
    scale = 1 + np.abs(head.evaluate(x)).max()
    assert np.abs(exact - head.evaluate(x)).max() < 1e-6 * scale


def test_simulated_noise_has_the_size_of_real_noise() -> None:
    head = make_head((64, 16, 10), seed=5)
    plan = make_plan(head, policy="open")
    x = features(60, 64)
    clear = head.evaluate(x)
    real, simulated = (
        np.sqrt(np.mean((scores - clear) ** 2)) for scores in (on_seal(plan, head, x), simulate(plan, head, x))
    )
    assert 0.5 < simulated / real < 2.0


@pytest.mark.parametrize(("widths", "batch"), [((512, 10), 1), ((100, 10), 64), ((64, 16, 10), 1), ((64, 16, 10), 64)])
def test_the_predicted_error_is_near_the_simulated_one(widths: tuple[int, ...], batch: int) -> None:
    head = make_head(widths, seed=3)
    # Under `hidden` half of the precision is the server's noise, which would mask the encryption's error.
    plan = make_plan(head, batch=batch, policy="open")
    x = features(640, widths[0])
    errors = (simulate(plan, head, x) - head.evaluate(x)).reshape(-1, batch, widths[-1])
    # The prediction is for the image of a request with the largest error.
    deviation = float(np.sqrt(np.mean(errors**2, axis=(0, 2))).max())
    predicted = plan.error / (WORST if len(widths) == 2 else WORST_OF_UNKNOWN)
    assert predicted / 4 < deviation < predicted * 2


def _correlated_features(images: int, width: int) -> np.ndarray:
    """Draw correlated features, as a trained network's are: mostly along one direction, here that of all ones."""
    random = np.random.default_rng(8)
    return np.clip(random.normal(size=(images, 1)) + 0.3 * random.normal(size=(images, width)), -4, 4)


@pytest.mark.parametrize("batch", [1, 16])
def test_measured_sizes_keep_the_error_within_precision_for_correlated_features(batch: int) -> None:
    random = np.random.default_rng(9)
    first = Linear(np.abs(random.normal(size=(16, 64))) / 32, np.zeros(16))
    last = Linear(4 * random.normal(size=(3, 16)), np.zeros(3))
    x = _correlated_features(400, 64)
    hidden = x @ first.weight.T
    rms = tuple(np.sqrt((hidden**2).mean(axis=0)))
    unknown = Head((first, Polynomial((0.0, 0.0, 1.0)), last))
    measured = Head((first, Polynomial((0.0, 0.0, 1.0), rms), last))
    errors = {}
    for head in (unknown, measured):
        plan = make_plan(head, batch=batch, policy="open")
        errors[head] = np.abs(simulate(plan, head, x) - head.evaluate(x)).max() / plan.error
    assert errors[unknown] > 1.5  # otherwise the test would prove nothing
    assert 1 / 16 < errors[measured] <= 1
