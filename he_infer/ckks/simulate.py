"""A whole data set through a plan on the clear engine: what encryption would do to its scores, in seconds."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.encoded_head import EncodedHead
from he_infer.ckks.engines.clear import ClearEngine
from he_infer.ckks.packing import pack, unpack
from he_infer.ckks.planning.plan import Plan
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
    """Scores (n, classes) of features (n, width) as encryption would give them.

    Args:
        plan: how the head is computed.
        head: the plan's.
        features: (n, width).
        seed: of the simulated noise; None: none, so that only the plan's arithmetic is left.
        progress: called with the images done and their number.

    Raises:
        UsageError: the plan was made for another head.
        ShapeError: features of another width.
    """
    engine = ClearEngine(plan.parameters, seed)
    encoded = EncodedHead(plan, head, engine)
    keys = engine.keys_for(plan)
    values = np.asarray(features, dtype=np.float64)
    requests = [values[start : start + plan.batch] for start in range(0, len(values), plan.batch)]
    scores = []
    for start in range(0, len(requests), _TOGETHER):
        block = requests[start : start + _TOGETHER]
        packed = [pack(plan, request) for request in block]
        inputs = [engine.encrypt(np.stack(vectors), plan.input_scale) for vectors in zip(*packed, strict=True)]
        answers = [engine.decrypt(answer) for answer in encoded.run(inputs, keys)]
        for index, request in enumerate(block):
            scores.append(unpack(plan, [answer[index] for answer in answers], len(request)))
        if progress is not None:
            progress(min((start + len(block)) * plan.batch, len(values)), len(values))
    return np.concatenate(scores)
