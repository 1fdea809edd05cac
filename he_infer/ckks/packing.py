"""The client's steps in the clear: packs features into slots, and turns opened answers into scores. numpy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.answer import OpenedAnswer
from he_infer.ckks.layouts.last_layer import Trace
from he_infer.ckks.planning.plan import Plan
from he_infer.errors import ShapeError


def pack(plan: Plan, features: NDArray[np.floating]) -> list[NDArray[np.generic]]:
    """Pack features (n, width), n at most `plan.batch`, into the (slots,) vectors of the plan's ciphertexts."""
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or not 1 <= len(values) <= plan.batch or values.shape[1] != plan.width:
        raise ShapeError(
            f"Features have the shape {values.shape}; the plan takes (n, {plan.width}) with n from 1 to {plan.batch}."
        )
    first = plan.stages[0].layout if plan.stages else plan.output
    if isinstance(first, Trace):
        raise ShapeError("The plan has no layout for features.")
    return first.pack(values)


def unpack(plan: Plan, answers: Sequence[OpenedAnswer], n: int) -> NDArray[np.float64]:
    """Turn the opened answers of a request into scores (n, classes)."""
    if len(answers) != plan.targets or not 1 <= n <= plan.batch:
        raise ShapeError(
            f"There are {len(answers)} answers for {n} images; the plan gives {plan.targets} for at most {plan.batch} "
            "images."
        )
    return plan.output.unpack([answer.scores for answer in answers])[:n]
