"""From a head to a plan: every ring size and layout is scaled and priced; the cheapest one precise enough is taken.

The choice depends only on the head, the arguments and the table of `cost`, so that every process makes the same one.
`candidates` lists the layouts, `reach` bounds the values, `scales` finds the chain and the scales.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from he_infer.ckks.layouts.hidden_layer import padded
from he_infer.ckks.layouts.last_layer import OutputLayout, Trace
from he_infer.ckks.parameters import BUDGET, MAX_PRIME, Parameters
from he_infer.ckks.planning.candidates import list_hidden_layouts, list_tiles
from he_infer.ckks.planning.cost import estimate_cost
from he_infer.ckks.planning.leakage import hides
from he_infer.ckks.planning.order import Digits, Moment, Order
from he_infer.ckks.planning.plan import Plan, Stage
from he_infer.ckks.planning.reach import Reach, bound_values
from he_infer.ckks.planning.request import PlanRequest
from he_infer.ckks.planning.scales import PREFERRED_PRIME, Scales, scale_stages, scale_tile
from he_infer.errors import ParameterError
from he_infer.head.layers import Head

_PRICE_OF_LIKELY = 1.2
"""A plan whose values are bounded only for likely features is preferred if it is cheaper by this factor."""


def make_plan(
    head: Head,
    *,
    batch: int = 1,
    policy: str = "hidden",
    precision: float = 1e-3,
    input_bound: float = 4.0,
    parameters: Parameters | None = None,
    digits: Digits = Digits.POSITIVE,
    max_request: int | None = None,
) -> Plan:
    """Plan a head; see `PlanRequest` for the arguments.

    Raises:
        HeadError: no score depends on the features.
        ParameterError: no plan meets the request, or the given parameters are too small for the head; the message says
            why.
    """
    return search_plan(
        PlanRequest(head, batch, policy, precision, input_bound, parameters, digits, max_request=max_request)
    )


@dataclass
class _Found:
    """The best plan so far, and the reasons why others were rejected."""

    best: Plan | None = None
    least: float = math.inf
    """Cost of the best plan, in milliseconds."""
    reached: float = math.inf
    """The least error of any plan."""
    told: bool = False
    """Whether a plan was precise enough, but its answers would reveal too much for `hidden`."""
    smallest: float = math.inf
    """Bytes of the smallest request that was too large."""


_SMALL_SHARE = 1 / 8
"""Share of the server's noise in the precision, if the encryption's error needs more than the usual other half."""


def search_plan(request: PlanRequest) -> Plan:
    """Find the cheapest plan that meets the request; raises as `make_plan` does."""
    try:
        # Numbers that leave the range of doubles would become infinities, and a plan of nonsense.
        with np.errstate(over="raise", invalid="raise"):
            found = _search(request)
            reached = found.reached
            if found.best is None and request.policy == "hidden" and request.effective_precision < reached < math.inf:
                found = _search(replace(request, noise_share=_SMALL_SHARE))
    except ArithmeticError as error:
        raise ParameterError(
            "The head's numbers are too large or too small for any plan: its weights and coefficients, multiplied, "
            "leave the range of floating-point numbers. Train it with smaller ones."
        ) from error
    if found.best is None:
        raise ParameterError(_explain_refusal(request, found))
    return found.best


def _search(request: PlanRequest) -> _Found:
    found = _Found()
    own = request.parameters
    for largest in (PREFERRED_PRIME, MAX_PRIME) if own is None else (MAX_PRIME,):
        for ring_size in BUDGET if own is None else (own.ring_size,):
            if found.best is not None and request.circuit.activations:
                # A larger ring takes more than twice the time for the same layers.
                break
            for certain in (True, False):
                _search_ring(request, ring_size, found, certain=certain, largest=largest)
        if found.best is not None:
            break
    return found


def _search_ring(request: PlanRequest, ring_size: int, found: _Found, *, certain: bool, largest: int) -> None:
    for plan in _list_plans(request, ring_size, certain=certain, largest=largest):
        found.reached = min(found.reached, plan.error)
        if plan.error > request.effective_precision:
            continue
        if plan.policy == "hidden" and not hides(plan):
            found.told = True
            continue
        cost = estimate_cost(plan, request.circuit)
        if request.max_request is not None and cost.bytes_up > request.max_request:
            found.smallest = min(found.smallest, cost.bytes_up)
            continue
        price = cost.total_ms * (1.0 if certain else _PRICE_OF_LIKELY)
        if price < found.least:
            found.best, found.least = plan, price


def _explain_refusal(request: PlanRequest, found: _Found) -> str:
    """Write the error message for a request that no plan meets."""
    own, circuit = request.parameters, request.circuit
    where = "any ring up to N = 32768" if own is None else str(own)
    if found.smallest < math.inf:
        return (
            f"A request of {request.batch} images takes {found.smallest} bytes or more; at most {request.max_request} "
            "are allowed. Ask for fewer images a request, or allow larger requests."
        )
    if found.told:
        fewer = _find_smaller_batch(request)
        what = (
            "Use the policy 'open'."
            if fewer is None
            else (
                f"Ask for at most {fewer} images a request ('classify' splits a run into requests by itself), or use "
                "the policy 'open'."
            )
        )
        return (
            f"An answer for {request.batch} images has so many scores that a client with keys of its own making could "
            f"compute weights from it, in any ring up to N = 32768. {what}"
        )
    if found.reached < math.inf:
        return (
            f"A score error of at most {request.effective_precision:g} cannot be reached with {where}; the smallest is "
            f"{found.reached:.1e}. Allow a larger error, or train the head with more weight decay."
        )
    levels = sum(activation.multiplications for activation in circuit.activations)
    if own is not None and own.levels < levels:
        return (
            f"The chain of {where} is too short: the head needs {levels} levels or more, it has {own.levels}. "
            "Add primes, or leave the parameters to the planner."
        )
    return (
        f"A head of {len(circuit.activations)} activations ({levels} levels) for {request.batch} images does not fit "
        f"{where}: the modulus has no room for its values. Use fewer layers, a lower degree or fewer images a request."
    )


def _find_smaller_batch(request: PlanRequest) -> int | None:
    """Find the largest power of two below the request's batch for which there is a plan; None if there is none."""
    batch = 1 << ((request.batch - 1).bit_length() - 1) if request.batch > 1 else 0
    while batch:
        if _search(replace(request, batch=batch)).best is not None:
            return batch
        batch //= 2
    return None


def _list_plans(request: PlanRequest, ring_size: int, *, certain: bool, largest: int) -> Iterator[Plan]:
    """List for each layout the plan with the shortest chain that is precise enough, or with the least error."""
    circuit = request.circuit
    reach = bound_values(circuit, request.input_bound, certain=certain)
    reach = replace(reach, scores=min(reach.scores, request.largest_score))
    if not circuit.activations:
        for tile in list_tiles(circuit, ring_size, request.batch):
            scales = scale_tile(request, tile, reach, largest)
            if scales is not None:
                yield _build_plan(request, scales, (), tile, Order())
        return
    images = padded(request.batch)
    if images > ring_size // 2:
        return
    for rescaled in (False, True):
        if not rescaled and any(activation.degree > 2 for activation in circuit.activations):
            continue
        for order in _list_orders(request.digits, rescaled=rescaled):
            yield from _list_deep_plans(request, ring_size, images, reach, order, rescaled=rescaled, largest=largest)


def _list_orders(digits: Digits, *, rescaled: bool) -> tuple[Order, ...]:
    """List the orders to try. Key switches at a small scale suit only centred digits: the first slot errs no more."""
    if digits is Digits.CENTRED and rescaled:
        return Order(Moment.AFTER, Moment.BEFORE), Order(Moment.BEFORE, Moment.BEFORE)
    return (Order(Moment.BEFORE, Moment.BEFORE),)


def _list_deep_plans(
    request: PlanRequest,
    ring_size: int,
    images: int,
    reach: Reach,
    order: Order,
    *,
    rescaled: bool,
    largest: int,
) -> Iterator[Plan]:
    circuit = request.circuit
    last = circuit.linear[-1]
    output = Trace(last.inputs, last.outputs, ring_size, images, request.batch)
    chosen: dict[bool, Scales] = {}
    for layouts in list_hidden_layouts(circuit, ring_size, images):
        stages = tuple(
            Stage(layout, 1.0, rescaled, activation.degree)
            for layout, activation in zip(layouts, circuit.activations, strict=True)
        )
        # Layouts of the same kind, with or without baby steps, differ little: the first one's chain is tried for all.
        baby = bool(layouts[0].baby)
        scales = scale_stages(request, stages, output, order, reach, chosen.get(baby), largest)
        if scales is None:
            break
        chosen[baby] = scales
        yield _build_plan(request, scales, stages, output, order)


def _build_plan(
    request: PlanRequest, scales: Scales, stages: tuple[Stage, ...], output: OutputLayout, order: Order
) -> Plan:
    return Plan(
        policy=request.policy,
        parameters=scales.parameters,
        input_scale=scales.input,
        stages=tuple(replace(stage, weight_scale=w) for stage, w in zip(stages, scales.weights, strict=True)),
        output=output,
        output_scale=scales.output,
        gain=request.circuit.gain,
        order=order,
        digits=request.digits,
        answer=scales.answer,
        width=request.head.width,
        classes=request.head.classes,
        head_digest=request.head.digest,
        input_bound=float(request.input_bound),
        precision=request.effective_precision,
        batch=request.batch,
        error=scales.error,
    )
