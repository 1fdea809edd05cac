"""Choice of the plans of a published model."""

from collections.abc import Callable, Sequence

from he_infer.ckks.planning.circuit import build_circuit
from he_infer.ckks.planning.cost import estimate_cost
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.errors import ParameterError, UsageError
from he_infer.head.layers import Head

BATCHES = (1, 16, 64, 256)
"""Batch sizes, in images a request, that are published by default if they fit."""
PRECISION = 1e-3
"""Default of the largest error allowed in a score."""
MAX_REQUEST = 16 << 20
"""Largest request, in bytes, of a plan that is published by default: a quarter of a server's default limit."""
MAX_WEIGHTS = 64 << 20
"""Largest encoded weights, in bytes of a worker's memory, of a plan that is published by default."""
_MAX_SERVER_MS = 5000.0


def choose_plans(
    head: Head,
    *,
    batches: Sequence[int] | None,
    policy: str,
    precision: float,
    input_bound: float,
    note: Callable[[str], None] = lambda _line: None,
) -> tuple[Plan, ...]:
    """Choose the plans of a head by batch size, smallest first.

    Args:
        head: the classifier's head.
        batches: images a request, one plan each; None: those of `BATCHES` that fit.
        policy: `hidden` or `open`.
        precision: largest error of a score.
        input_bound: largest |feature|.
        note: called with one line for each default batch size that is left out.

    Raises:
        HeadError, ParameterError: as `make_plan`, for a batch size that the caller named, or for the smallest one.
        UsageError: a batch size is named twice.
    """
    wanted = sorted(BATCHES if batches is None else batches)
    if len(set(wanted)) != len(wanted) or not wanted:
        raise UsageError("Give each batch size once, and at least one.")
    plans: list[Plan] = []
    for batch in wanted:
        try:
            plan = make_plan(head, batch=batch, policy=policy, precision=precision, input_bound=input_bound)
        except ParameterError as error:
            if batches is not None or not plans:
                raise
            note(f"No plan for {batch} images a request: {error}")
            continue
        cost = estimate_cost(plan, build_circuit(head))
        large = cost.bytes_up > MAX_REQUEST or cost.weight_bytes > MAX_WEIGHTS or cost.server_ms > _MAX_SERVER_MS
        if batches is None and plans and large:
            note(
                f"No plan for {batch} images a request: it would take {cost.bytes_up / 1e6:.0f} MB a request, "
                f"{cost.weight_bytes / 1e6:.0f} MB in each worker and {cost.server_ms / 1e3:.1f} s. "
                f"'--batch {batch}' publishes it all the same."
            )
            continue
        plans.append(plan)
    return tuple(plans)
