"""Random heads through whole plans on the native engine: refused in one line, or right to the plan's error.

What is drawn goes to the edges: weights that are zero, tiny, huge or of very different sizes, one feature, one class,
widths beside powers of two, and requests of one image fewer than a plan's batch, as many, and one more.
"""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.engines.native.code_cache import default_folder
from he_infer.ckks.engines.native.kernels.ring import MAX_PRIME_BITS
from he_infer.ckks.engines.native.support import find_obstacle
from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.client.keys.secret_key import SecretKey
from he_infer.errors import HeInferError, ShapeError
from he_infer.head.layers import Head, Layer, Linear, Polynomial
from tests.he_infer.ckks.kit import SQUARE

TAIL = {0: 1.25, 1: 1.25, 2: 4.0}
"""Largest error in units of the prediction, by the number of activations. A key's own errors are drawn once, and the
prediction is eight standard deviations: of 226 random heads of one activation, one exceeded it under one of two keys,
by a twentieth. After two x^2 an image of large hidden values meets a large slope twice, which the prediction does not
know: of 42 such heads eight exceeded it, by 1.1 to 3.0 times (docs/engine.md)."""
pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason="no native engine on this machine")

NATIVE = EngineChoice(default_folder())
BOUND = 4.0
WIDTHS = (1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 129, 300)
HIDDEN = (1, 2, 3, 7, 8, 9, 16, 17, 31, 33)
CLASSES = (1, 2, 3, 7, 10, 17)
BATCHES = (1, 1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65)
KINDS = ("plain", "sparse", "zero rows", "zero columns", "tiny", "huge", "unlike rows", "unlike columns", "equal")
ACTIVATIONS = (SQUARE, SQUARE, (0.3, -0.5, 0.2), (0.1, 0.5, 0.2, 0.05), (0.1, 0.4, 0.3, 0.02, 0.05))


def draw_layer(inputs: int, outputs: int, kind: str, rng: np.random.Generator) -> Linear:
    """A layer of random weights of one kind."""
    weight = rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)
    match kind:
        case "sparse":
            weight *= rng.uniform(size=weight.shape) < 0.1
        case "zero rows":
            weight[rng.uniform(size=outputs) < 0.5] = 0
        case "zero columns":
            weight[:, rng.uniform(size=inputs) < 0.5] = 0
        case "tiny":
            weight *= 1e-6
        case "huge":
            weight *= 1e5
        case "unlike rows":
            weight *= 10.0 ** rng.uniform(-4, 2, (outputs, 1))
        case "unlike columns":
            weight *= 10.0 ** rng.uniform(-4, 2, (1, inputs))
        case "equal":
            weight[:] = weight[0, 0]
    return Linear(weight, rng.normal(size=outputs) * np.abs(weight).max(initial=0.0))


def measure(head: Head, features: np.ndarray) -> Head:
    """The head with the sizes of its activations' inputs, as training and import leave it."""
    layers, values = list[Layer](), features
    for layer in head.layers:
        if isinstance(layer, Polynomial):
            layers.append(Polynomial(layer.coefficients, tuple(np.sqrt((values**2).mean(axis=0)))))
        else:
            layers.append(layer)
        values = layer.evaluate(values)
    return Head(tuple(layers))


@st.composite
def heads(draw: st.DrawFn) -> Head:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depth = draw(st.sampled_from((0, 1, 1, 1, 2)))
    hidden = [draw(st.sampled_from(HIDDEN)) for _ in range(depth)]
    widths = [draw(st.sampled_from(WIDTHS)), *hidden, draw(st.sampled_from(CLASSES))]
    layers: list[Layer] = []
    for inputs, outputs in pairwise(widths):
        if layers:
            layers.append(Polynomial(SQUARE if depth > 1 else draw(st.sampled_from(ACTIVATIONS))))
        layers.append(draw_layer(inputs, outputs, draw(st.sampled_from(KINDS)), rng))
    return Head(tuple(layers))


def answer(plan: Plan, head: Head, blocks: list[np.ndarray]) -> list[np.ndarray]:
    """The opened scores of each block of features, by one client's keys."""
    secret, evaluator = SecretKey.generate(plan.parameters), Evaluator(plan, head, NATIVE)
    parts = secret.evaluation_keys(plan)
    keys = evaluator.load_keys(parts) if parts else None
    scores = []
    for block in blocks:
        sent = secret.encrypt(pack(plan, block), plan.input_scale)
        scores.append(unpack(plan, secret.open_answer(plan, evaluator.evaluate(sent, keys)), len(block)))
    return scores


@pytest.mark.slow  # minutes: plans, keys and ciphertexts of a hundred heads
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    head=heads(),
    batch=st.sampled_from(BATCHES),
    policy=st.sampled_from(("hidden", "open")),
    digits=st.sampled_from((Digits.CENTRED, Digits.CENTRED, Digits.POSITIVE)),
    relative=st.sampled_from((1e-2, 1e-3, 1e-4)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_head_is_refused_in_one_line_or_its_scores_are_right(
    head: Head, batch: int, policy: str, digits: Digits, relative: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    typical = np.clip(rng.normal(0, BOUND / 4, (256, head.width)), -BOUND, BOUND)
    head = measure(head, typical)
    precision = relative * float(head.evaluate(typical).std(axis=0).max() or 1.0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an overflow or a division by zero on the way to a plan
            plan = make_plan(head, batch=batch, policy=policy, precision=precision, input_bound=BOUND, digits=digits)
    except HeInferError as error:
        event(f"refused: {type(error).__name__}")
        one_line = "\n" not in str(error)
        assert one_line
        return
    if max(plan.parameters.modulus_bits) > MAX_PRIME_BITS and digits is Digits.CENTRED:
        event("primes that the native engine does not compute with: publishing keeps the other plan")
        return
    event(f"planned: N = {plan.parameters.ring_size}, {'keys' if plan.needs_keys else 'no keys'}")
    counts = sorted({1, plan.batch - 1, plan.batch} - {0})
    blocks = [typical[rng.integers(0, 256, count)] for count in counts]
    blocks.append(np.zeros((plan.batch, head.width)))
    with pytest.raises(ShapeError):
        pack(plan, typical[: plan.batch + 1])
    for block, found in zip(blocks, answer(plan, head, blocks), strict=True):
        assert found.shape == (len(block), head.classes)
        assert plan.error <= precision
        assert np.abs(found - head.evaluate(block)).max() <= TAIL[len(head.activations)] * plan.error
