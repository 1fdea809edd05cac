"""Simulation of a plan on a whole data set: scores with the errors that encryption would add, within seconds."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.answer import OpenedAnswer, shift_of_noise
from he_infer.ckks.encoded_head import EncodedHead
from he_infer.ckks.engines.clear import ClearEngine
from he_infer.ckks.layouts.ring import to_coefficients
from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.scale_walk import walk_scales
from he_infer.head.layers import Head

_TOGETHER = 32


def simulate(
    plan: Plan,
    head: Head,
    features: NDArray[np.floating],
    *,
    seed: int | None = 0,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Simulate the scores (n, classes) that encryption would give for features (n, width).

    Args:
        plan: steps and parameters of the computation.
        head: the head that the plan was made for.
        features: (n, width).
        seed: seed of the simulated noise; None: no noise, only the plan's arithmetic.
        progress: called with the number of images done and of all images.

    Raises:
        UsageError: the plan was made for another head.
        ShapeError: features of another width.
    """
    engine = ClearEngine(plan.parameters, seed, plan.digits)
    encoded = EncodedHead(plan, head, engine)
    keys = engine.keys_for(plan)
    random = None if seed is None else np.random.default_rng(seed + 1)
    values = np.asarray(features, dtype=np.float64)
    requests = [values[start : start + plan.batch] for start in range(0, len(values), plan.batch)]
    scores = []
    for start in range(0, len(requests), _TOGETHER):
        block = requests[start : start + _TOGETHER]
        packed = [pack(plan, request) for request in block]
        inputs = [engine.encrypt(np.stack(vectors), plan.input_scale) for vectors in zip(*packed, strict=True)]
        answers = [engine.decrypt(answer) for answer in encoded.run(inputs, keys)]
        for index, request in enumerate(block):
            opened = [_open(plan, target, answer[index], random) for target, answer in enumerate(answers)]
            scores.append(unpack(plan, opened, len(request)))
        if progress is not None:
            progress(min((start + len(block)) * plan.batch, len(values)), len(values))
    return np.concatenate(scores)


def _open(plan: Plan, target: int, slots: NDArray[np.complex128], random: np.random.Generator | None) -> OpenedAnswer:
    """Open a simulated answer as a client would; the server's noise and the error of the cut bits are simulated too."""
    selection = plan.output.selection(target)
    numbers = selection.take(to_coefficients(slots)) / plan.gain
    if random is not None:
        primes = [1 << bits for bits in plan.parameters.modulus_bits]
        unit = walk_scales(plan, primes).answer_scale * plan.gain
        shift = shift_of_noise(plan.answer.noise, selection)
        numbers = numbers + random.uniform(-1, 1, len(shift)) * shift / unit
        cut = 2.0 ** (plan.parameters.modulus_bits[0] - plan.answer.bits) / unit
        terms = np.where(selection.second >= 0, 2, 1)
        numbers = numbers + random.normal(size=len(shift)) * cut * np.sqrt(
            (1 + terms * 2 * plan.parameters.ring_size / 3) / 12
        )
    return OpenedAnswer(numbers[: selection.scores], numbers[selection.scores :])
