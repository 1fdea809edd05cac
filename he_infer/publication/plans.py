"""Choice of the plans of a published model."""

from collections.abc import Callable, Sequence

from he_infer.ckks.planning.circuit import Circuit, build_circuit
from he_infer.ckks.planning.cost import estimate_cost
from he_infer.ckks.planning.order import Digits
from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.scales import PREFERRED_PRIME
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
_GAIN = 0.95
"""A plan that the native engine alone computes must take less than this share of the other plan's time."""


def choose_plans(
    head: Head,
    *,
    batches: Sequence[int] | None,
    policy: str,
    precision: float,
    input_bound: float,
    digits: Digits = Digits.POSITIVE,
    note: Callable[[str], None] = lambda _line: None,
) -> tuple[Plan, ...]:
    """Choose the plans of a head by batch size, smallest first.

    Args:
        head: the classifier's head.
        batches: images a request, one plan each; None: those of `BATCHES` that fit.
        policy: `hidden` or `open`.
        precision: largest error of a score.
        input_bound: largest |feature|.
        digits: `CENTRED` where all servers have the native engine: a batch size whose plan for centred digits is
            clearly faster gets that plan. SEAL computes the plans of the other sizes alone.
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
            if digits is Digits.CENTRED:
                plan = _take_centred_if_faster(
                    plan,
                    make_plan(
                        head,
                        batch=batch,
                        policy=policy,
                        precision=precision,
                        input_bound=input_bound,
                        digits=Digits.CENTRED,
                    ),
                    build_circuit(head),
                )
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


def _take_centred_if_faster(plan: Plan, centred: Plan, circuit: Circuit) -> Plan:
    """Return the plan for centred digits if the native engine computes it, and clearly faster than the other one."""
    if max(centred.parameters.modulus_bits) > PREFERRED_PRIME or not centred.needs_keys:
        return plan
    faster = estimate_cost(centred, circuit).server_ms < _GAIN * estimate_cost(plan, circuit).server_ms
    return centred if faster else plan
