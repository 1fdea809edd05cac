"""What the client does in clear: features into slots, slots into scores. numpy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.plan import Plan
from he_infer.errors import ShapeError


def pack(plan: Plan, features: NDArray[np.floating]) -> list[NDArray[np.float64]]:
    """Features (n, width), n at most `plan.batch`, into the slots of the plan's ciphertexts."""
    values = np.asarray(features, dtype=np.float64)
    if values.shape != (1, plan.width):
        raise ShapeError(f"Features have the shape {values.shape}; the plan takes (1, {plan.width}).")
    first = plan.stages[0].layout
    vector = np.zeros(first.inputs)
    vector[: plan.width] = values[0]
    return [vector[first.held()]]


def unpack(plan: Plan, slots: Sequence[NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    """The slots of the answer's ciphertexts into scores (n, classes)."""
    if len(slots) != 1 or slots[0].shape != (plan.parameters.slots,) or n != 1:
        raise ShapeError(f"The answer has {len(slots)} ciphertexts for {n} images; the plan gives one for one image.")
    last = plan.stages[-1].layout
    values = slots[0]
    if last.kind == "blocks":
        rows = values[: plan.classes * last.inputs].reshape(plan.classes, last.inputs)
        scores = rows[:, 0] if last.folds else rows.sum(axis=1)
    elif last.folds or last.inputs <= last.outputs:
        scores = values[: plan.classes]
    else:
        scores = values.reshape(-1, last.outputs).sum(axis=0)[: plan.classes]
    return np.asarray(scores, dtype=np.float64)[None, :]
