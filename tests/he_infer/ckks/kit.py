"""Random heads and features, and their scores on both engines."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from he_infer.ckks.evaluate import Evaluator
from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.simulate import simulate
from he_infer.client.keys.secret_key import SecretKey
from he_infer.head.layers import Head, Layer, Linear, Polynomial

SQUARE = (0.0, 0.0, 1.0)


def make_head(
    widths: Sequence[int], coefficients: Sequence[float] = SQUARE, *, seed: int = 0, keep: float = 1.0
) -> Head:
    """Make a random head; `keep` is the share of weights that are not zero."""
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        if index:
            layers.append(Polynomial(tuple(coefficients)))
        weight = rng.normal(size=(outputs, inputs)) / np.sqrt(inputs * keep)
        weight *= rng.uniform(size=weight.shape) <= keep
        weight[0, 0] = weight[0, 0] or 0.5
        layers.append(Linear(weight, rng.normal(size=outputs) / 10))
    return Head(tuple(layers))


def features(images: int, width: int, *, seed: int = 1) -> np.ndarray:
    """Draw features of typical size: a quarter of the bound of 4."""
    return np.clip(np.random.default_rng(seed).normal(size=(images, width)), -4, 4)


def on_seal(plan: Plan, head: Head, x: np.ndarray) -> np.ndarray:
    """Compute scores through real, serialized ciphertexts."""
    secret = SecretKey.generate(plan.parameters)
    evaluator = Evaluator(plan, head)
    parts = secret.evaluation_keys(plan)
    assert bool(parts) == plan.needs_keys
    keys = evaluator.load_keys(parts) if parts else None
    out = []
    for start in range(0, len(x), plan.batch):
        block = x[start : start + plan.batch]
        answer = evaluator.evaluate(secret.encrypt(pack(plan, block), plan.input_scale), keys)
        out.append(unpack(plan, secret.open_answer(plan, answer), len(block)))
    return np.concatenate(out)


def on_clear(plan: Plan, head: Head, x: np.ndarray) -> np.ndarray:
    """Compute scores on the clear engine, with its noise."""
    return simulate(plan, head, x)


ENGINES = {"seal": on_seal, "clear": on_clear}
