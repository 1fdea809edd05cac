"""From a head to a plan: every ring size and layout is scaled and priced; the cheapest one precise enough is taken.

The choice follows from the head, the arguments and the table of `cost` alone, so that every process makes the same one.
`candidates` lists the layouts, `reach` bounds the values, `scales` finds the chain and the scales.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from he_infer.ckks.layouts.hidden_layer import padded
from he_infer.ckks.layouts.last_layer import OutputLayout, Trace
from he_infer.ckks.parameters import BUDGET, Parameters
from he_infer.ckks.planning.candidates import list_hidden_layouts, list_tiles
from he_infer.ckks.planning.cost import estimate_cost
from he_infer.ckks.planning.plan import Plan, Stage
from he_infer.ckks.planning.reach import Reach, bound_values
from he_infer.ckks.planning.request import PlanRequest
from he_infer.ckks.planning.scales import Scales, scale_stages, scale_tile
from he_infer.errors import ParameterError
from he_infer.head.layers import Head

_PRICE_OF_LIKELY = 1.2
"""A plan whose values are bounded for likely features alone is taken where it is cheaper by this factor."""


def make_plan(
    head: Head,
    *,
    batch: int = 1,
    policy: str = "hidden",
    precision: float = 1e-3,
    input_bound: float = 4.0,
    parameters: Parameters | None = None,
) -> Plan:
    """Plan a head; see `PlanRequest` for the arguments.

    Raises:
        HeadError: no score depends on the features.
        ParameterError: a request that cannot be had, or parameters that do not carry the head; the message says why.
    """
    return search_plan(PlanRequest(head, batch, policy, precision, input_bound, parameters))


def search_plan(request: PlanRequest) -> Plan:
    """The cheapest plan that meets the request; raises as `make_plan` does."""
    best: Plan | None = None
    least = math.inf
    reached = math.inf
    own = request.parameters
    for ring_size in BUDGET if own is None else (own.ring_size,):
        if best is not None and request.circuit.activations:
            # A larger ring takes more than twice the time for the same layers.
            break
        for certain in (True, False):
            for plan in _list_plans(request, ring_size, certain=certain):
                reached = min(reached, plan.error)
                if plan.error > request.precision:
                    continue
                spent = estimate_cost(plan, request.circuit).total_ms * (1.0 if certain else _PRICE_OF_LIKELY)
                if spent < least:
                    best, least = plan, spent
    if best is None:
        raise ParameterError(_explain_refusal(request, reached))
    return best


def _explain_refusal(request: PlanRequest, reached: float) -> str:
    """The message for a request that no plan meets; `reached` is the least error of any plan."""
    own, circuit = request.parameters, request.circuit
    where = "any ring up to N = 32768" if own is None else str(own)
    if reached < math.inf:
        return (
            f"Scores to {request.precision:g} cannot be had within {where}; the best is {reached:.1e}. Ask for less "
            "precision, or train the head with more weight decay."
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


def _list_plans(request: PlanRequest, ring_size: int, *, certain: bool) -> Iterator[Plan]:
    """For each layout that may be the best, the shortest chain that reaches the precision, or the best there is."""
    circuit = request.circuit
    reach = bound_values(circuit, request.input_bound, certain=certain)
    if not circuit.activations:
        for tile in list_tiles(circuit, ring_size, request.batch):
            scales = scale_tile(request, tile, reach)
            if scales is not None:
                yield _build_plan(request, scales, (), tile)
        return
    images = padded(request.batch)
    if images > ring_size // 2:
        return
    for rescaled in (False, True):
        if not rescaled and any(activation.degree > 2 for activation in circuit.activations):
            continue
        yield from _list_deep_plans(request, ring_size, images, reach, rescaled=rescaled)


def _list_deep_plans(
    request: PlanRequest, ring_size: int, images: int, reach: Reach, *, rescaled: bool
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
        # Layouts with or without baby steps differ little among themselves: the chain of the first one serves all.
        baby = bool(layouts[0].baby)
        scales = scale_stages(request, stages, output, reach, chosen.get(baby))
        if scales is None:
            break
        chosen[baby] = scales
        yield _build_plan(request, scales, stages, output)


def _build_plan(request: PlanRequest, scales: Scales, stages: tuple[Stage, ...], output: OutputLayout) -> Plan:
    return Plan(
        policy=request.policy,
        parameters=scales.parameters,
        input_scale=scales.input,
        stages=tuple(replace(stage, weight_scale=w) for stage, w in zip(stages, scales.weights, strict=True)),
        output=output,
        output_scale=scales.output,
        width=request.head.width,
        classes=request.head.classes,
        head_digest=request.head.digest,
        input_bound=float(request.input_bound),
        precision=float(request.precision),
        batch=request.batch,
        error=scales.error,
    )
