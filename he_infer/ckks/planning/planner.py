"""From a head to a plan: layouts, ring size, modulus chain and scales, by predicted cost and predicted error.

The choice follows from the head, the arguments and the table of `cost` alone, so that every process makes the same one.

Two bounds decide how much room values get. The certain one is |W| |x| + |b| in every layer: no feature vector within
the bound can then wrap around. Deep or wide heads have no room for it; there a layer's outputs are bounded by
`LIKELY` * (norm of the row) * (largest feature) + |b| instead, which is 8 deviations for features of typical size, and
by 8 times the measured size of the value where the head knows that.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.layouts.hidden_layer import Hybrid, padded
from he_infer.ckks.layouts.last_layer import Answer, Tile, Trace
from he_infer.ckks.parameters import BUDGET, MAX_PRIME, Parameters
from he_infer.ckks.planning.circuit import Circuit, circuit
from he_infer.ckks.planning.cost import cost, log2
from he_infer.ckks.planning.noise import (
    WORST,
    WORST_OF_PRODUCTS,
    WORST_OF_UNKNOWN,
    Chain,
    at_scores,
    through_activation,
    through_linear,
    typical,
)
from he_infer.ckks.planning.plan import POLICIES, Plan, Stage
from he_infer.errors import ParameterError
from he_infer.head.layers import Head

LIKELY = 2.0
_LIKELY_OF_MEASURED = 8.0
_LANES = (1, 2, 4, 8)
_LEAST_SCALE = 12.0
"""log2 of the smallest scale of values between layers."""
_GUARD = 1.0
"""Bits of modulus that no value reaches: one for the sign."""


@dataclass(frozen=True)
class _Reach:
    """Bounds of what stands in slots, by layer."""

    before: tuple[float, ...]
    """Of each hidden layer's linear outputs."""
    after: tuple[float, ...]
    """Of each activation, all its steps."""
    scores: float


def make_plan(
    head: Head,
    *,
    batch: int = 1,
    policy: str = "hidden",
    precision: float = 1e-3,
    input_bound: float = 4.0,
    parameters: Parameters | None = None,
) -> Plan:
    """Plan a head.

    Args:
        head: linear layers with activations of degree 2 to 4.
        batch: images a request.
        policy: `hidden` (answers show the scores alone, masked and re-randomised) or `open` (they may show more of the
            weights).
        precision: largest error of a score wanted.
        input_bound: largest |feature|.
        parameters: ring size and chain of the user's own, else the planner chooses.

    Raises:
        HeadError: no score depends on the features.
        ParameterError: a policy, batch or precision that cannot be had, or parameters that do not carry the head; the
            message says why.
    """
    _check(batch, policy, precision, input_bound)
    form = circuit(head)
    best: Plan | None = None
    least = math.inf
    reached = math.inf
    for size in BUDGET if parameters is None else (parameters.ring_size,):
        if best is not None and form.activations:
            # A larger ring takes more than twice the time for the same layers.
            break
        for certain in (True, False):
            for plan in _plans(head, form, size, batch, policy, precision, input_bound, certain, parameters):
                reached = min(reached, plan.error)
                if plan.error > precision:
                    continue
                spent = cost(plan, form).total_ms * (1.0 if certain else 1.2)
                if spent < least:
                    best, least = plan, spent
    if best is None:
        raise ParameterError(_why(form, batch, precision, reached, parameters))
    return best


def _check(batch: int, policy: str, precision: float, input_bound: float) -> None:
    if policy not in POLICIES:
        raise ParameterError(f"There is no policy {policy!r}; use one of {', '.join(POLICIES)}.")
    if not 1 <= batch <= max(BUDGET):
        raise ParameterError(f"A request of {batch} images cannot be planned; expected 1 to {max(BUDGET)}.")
    if not 0 < precision < math.inf:
        raise ParameterError(f"A precision of {precision} cannot be planned for; expected a positive number.")
    if not 0 < input_bound < math.inf:
        raise ParameterError(f"A bound of {input_bound} for the features cannot be planned for; expected one above 0.")


def _why(form: Circuit, batch: int, precision: float, reached: float, parameters: Parameters | None) -> str:
    """What is to be said where no plan was found."""
    where = "any ring up to N = 32768" if parameters is None else str(parameters)
    if reached < math.inf:
        return (
            f"Scores to {precision:g} cannot be had within {where}; the best is {reached:.1e}. Ask for less precision, "
            "or train the head with more weight decay."
        )
    levels = sum(activation.multiplications for activation in form.activations)
    if parameters is not None and parameters.levels < levels:
        return (
            f"The chain of {where} is too short: the head needs {levels} levels or more, it has {parameters.levels}. "
            "Add primes, or leave the parameters to the planner."
        )
    return (
        f"A head of {len(form.activations)} activations ({levels} levels) for {batch} images does not fit {where}: the "
        "modulus has no room for its values. Use fewer layers, a lower degree or fewer images a request."
    )


def _plans(
    head: Head, form: Circuit, size: int, batch: int, policy: str, precision: float, bound: float, certain: bool,
    own: Parameters | None,
) -> Iterator[Plan]:  # fmt: skip
    """For each layout that may be the best, the shortest chain that reaches the precision, or the best there is."""
    reach = _reach(form, bound, certain)

    def plan(parameters: Parameters, scales: "_Scales", stages: tuple[Stage, ...], answer: Answer) -> Plan:
        return Plan(
            policy, parameters, scales.input, stages, answer, scales.answer, head.width, head.classes, head.digest,
            float(bound), float(precision), batch, scales.error,
        )  # fmt: skip

    if not form.activations:
        for tile in _tiles(form, size, batch):
            found = _linear_scales(form, tile, reach, bound, precision, own)
            if found is not None:
                yield plan(found[0], found[1], (), tile)
        return
    images = padded(batch)
    if images > size // 2:
        return
    for rescaled in (False, True):
        if not rescaled and any(activation.degree > 2 for activation in form.activations):
            continue
        chains: dict[bool, tuple[Parameters, _Scales] | None] = {}
        for layouts in _layouts(form, size, images):
            stages = tuple(
                Stage(layout, 1.0, rescaled, activation.degree)
                for layout, activation in zip(layouts, form.activations, strict=True)
            )
            last = form.linear[-1]
            answer = Trace(last.inputs, last.outputs, size, images, batch)
            # Layouts with or without baby steps differ little among themselves: the chain of the first one serves all.
            baby = bool(layouts[0].baby)
            chosen = _deep_scales(form, stages, answer, reach, bound, precision, own, chains.get(baby))
            if chosen is None:
                break
            chains[baby] = chosen
            parameters, scales = chosen
            scaled = tuple(replace(stage, weight_scale=w) for stage, w in zip(stages, scales.weights, strict=True))
            yield plan(parameters, scales, scaled, answer)


@dataclass(frozen=True)
class _Scales:
    input: float
    weights: tuple[float, ...]
    answer: float
    error: float


def _reach(form: Circuit, bound: float, certain: bool) -> _Reach:
    held: NDArray[np.float64] = np.full(form.linear[0].inputs, bound)
    largest = bound
    before, after = [], []
    for layer, activation, known in zip(form.linear, form.activations, form.measured, strict=False):
        sizes = None if known is None else known.inputs
        values = _outputs(layer.weight, held, largest, certain, sizes) + np.abs(layer.bias)
        before.append(float(values.max()))
        held = activation.largest(values)
        largest = float(held.max())
        after.append(max(largest, float((values**2).max()) + abs(activation.e)))
    last = form.linear[-1]
    return _Reach(tuple(before), tuple(after), float((np.abs(last.weight) @ held + np.abs(last.bias)).max()))


def _outputs(
    weight: NDArray[np.float64],
    held: NDArray[np.float64],
    largest: float,
    certain: bool,
    sizes: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    sure = np.abs(weight) @ held
    if certain:
        return np.asarray(sure)
    likely = LIKELY * np.sqrt(weight**2 @ np.minimum(held, largest) ** 2)
    if sizes is not None:
        likely = np.maximum(likely, _LIKELY_OF_MEASURED * sizes)
    return np.asarray(np.minimum(sure, likely))


def _tiles(form: Circuit, size: int, batch: int) -> Iterator[Tile]:
    """Tilings of N coefficients with as many features or as many rows as fit."""
    inputs, outputs = form.linear[0].inputs, form.linear[0].outputs
    room = size // batch
    seen = set()
    for answers in range(1, min(outputs, 64) + 1):
        rows = -(-outputs // answers)
        if rows > room or rows in seen:
            continue
        seen.add(rows)
        most = min(room // rows, inputs)
        chunk = -(-inputs // -(-inputs // most))
        yield Tile(inputs, outputs, size, batch, chunk, rows)
    if room and outputs > 64:
        yield Tile(inputs, outputs, size, batch, min(room, inputs), max(1, room // inputs))


def _linear_scales(
    form: Circuit, tile: Tile, reach: _Reach, bound: float, precision: float, own: Parameters | None
) -> tuple[Parameters, _Scales] | None:
    """One prime, split between features and weights so that the error is least."""
    found: tuple[Parameters, _Scales] | None = None
    widest = min(MAX_PRIME, BUDGET[tile.ring_size])
    sizes = range(30, widest + 1) if own is None else (own.modulus_bits[0],)
    for bits in sizes:
        parameters = Parameters(tile.ring_size, (bits,)) if own is None else own
        if parameters.levels:
            continue
        chain = Chain(tile.ring_size, parameters.modulus_bits)
        room = bits - _GUARD - log2(reach.scores + precision)
        for tenths in range(3, 8):
            scale = math.floor(room * tenths / 10)
            rest = math.floor(room - scale)
            if rest < 1 or scale + log2(bound) > bits - _GUARD:
                continue
            spread = typical(tile.inputs, bound, 2.0**scale, chain)
            error = WORST * at_scores(spread, form, tile, scale=2.0**scale, answer_scale=2.0**rest, chain=chain)
            if found is None or error < found[1].error:
                found = parameters, _Scales(2.0**scale, (), 2.0**rest, error)
        if found is not None and found[1].error <= precision / 2:
            break
    return found


def _layouts(form: Circuit, size: int, images: int) -> Iterator[tuple[Hybrid, ...]]:
    """Layouts of all hidden layers; only the first one has a choice of lanes and parts."""
    rest = []
    for layer in form.linear[1:-1]:
        rest.append(_stepped(Hybrid(layer.inputs, layer.outputs, size // 2, images, False), layer.weight))
    layer = form.linear[0]
    seen = set()
    for parts, lanes in product((1, 2), _LANES):
        plain = Hybrid(layer.inputs, layer.outputs, size // 2, images, True, lanes, parts)
        # More copies than diagonals gain nothing.
        if lanes * parts > 1 and plain.copies * lanes * parts > min(plain.width, plain.height):
            continue
        # Key switches add the same error to a small scale as to a large one: rotations of the fresh input cost
        # precision, those of products do not. So the layout without baby steps is another choice.
        for first in (_stepped(plain, layer.weight), _stepped(plain, layer.weight, baby=False)):
            if first not in seen:
                seen.add(first)
                yield (first, *rest)


def _stepped(layout: Hybrid, weight: NDArray[np.float64], *, baby: bool = True) -> Hybrid:
    """The layout with the baby and giant steps that take the fewest rotations, or with giant steps alone."""
    diagonals = np.unique([diagonal for _, _, diagonal in layout.occupied(weight)])
    best: tuple[int, Hybrid] | None = None
    limit = layout.diagonals if baby else 1
    for size in sorted({*range(1, min(limit, 64) + 1), *(1 << bit for bit in range(limit.bit_length()))}):
        small = tuple(int(step) for step in np.unique(diagonals % size) if step)
        large = tuple(int(step) for step in np.unique(diagonals - diagonals % size) if step)
        stepped = replace(layout, size=size, baby=small, giant=large)
        if best is None or stepped.key_switches < best[0]:
            best = stepped.key_switches, stepped
    if best is None:
        raise ParameterError("A layer without diagonals cannot be laid out.")
    return best[1]


def _deep_scales(
    form: Circuit, stages: tuple[Stage, ...], answer: Trace, reach: _Reach, bound: float, precision: float,
    own: Parameters | None, before: tuple[Parameters, _Scales] | None,
) -> tuple[Parameters, _Scales] | None:  # fmt: skip
    """The shortest chain whose error is within the precision, else the one with the least error; None: no room."""
    if before is not None:
        kept = _try(form, stages, answer, reach, bound, before[0], before[1].input, before[1].weights)
        if kept is not None and (kept.error <= precision or before[1].error > precision):
            return before[0], kept
    levels = sum(stage.levels for stage in stages)
    found: tuple[Parameters, _Scales] | None = None
    for parameters in _chains(answer.ring_size, levels) if own is None else (own,):
        if parameters.levels != levels or not parameters.switches_keys:
            continue
        for scales in _scalings(parameters, stages, reach):
            tried = _try(form, stages, answer, reach, bound, parameters, *scales)
            if tried is not None and (found is None or tried.error < found[1].error):
                found = parameters, tried
        if found is not None and found[1].error <= precision:
            break
    return found


def _chains(size: int, levels: int) -> Iterator[Parameters]:
    """Chains [q0, q, ..., q, special] within the budget, fewest bits of data first."""
    budget = BUDGET[size]
    options = []
    for first, prime in product(range(30, MAX_PRIME + 1, 3), range(30, MAX_PRIME + 1, 3)):
        data = first + levels * prime
        special = min(MAX_PRIME, max(first, prime), budget - data)
        if special >= 30 and first >= prime - 24:
            options.append((data, -special, abs(first - prime), first, prime, special))
    for _, _, _, first, prime, special in sorted(options):
        yield Parameters(size, (first, *(prime,) * levels, special))


def _scalings(
    parameters: Parameters, stages: tuple[Stage, ...], reach: _Reach
) -> Iterator[tuple[float, tuple[float, ...]]]:
    """Scales of the input and of each stage's weights, as powers of two."""
    prime = parameters.data_bits[-1]
    if stages[0].rescaled:
        # The linear map's product is divided by the very prime that the weights were scaled by.
        for scale in range(prime - 6, prime + 1):
            yield 2.0**scale, (2.0**prime,) * len(stages)
        return
    # A square of scale 2s has the room of all primes of its level; after it the scale is 2s - prime.
    room = sum(parameters.data_bits[: len(stages) + 1]) - _GUARD - log2(max(reach.after))
    most = math.floor(room / 2)
    for product_scale in range(most, max(20, most - 12), -2):
        for share in (0.4, 0.45, 0.5, 0.6):
            scale = round(product_scale * share)
            later = 2 * product_scale - prime
            weights = (product_scale - scale, *(product_scale - later,) * (len(stages) - 1))
            if min(weights) >= 8 and scale >= 8:
                yield 2.0**scale, tuple(2.0**weight for weight in weights)


def _try(
    form: Circuit, stages: tuple[Stage, ...], answer: Trace, reach: _Reach, bound: float, parameters: Parameters,
    input_scale: float, weights: tuple[float, ...],
) -> _Scales | None:  # fmt: skip
    """The scales with the largest one of the answer that has room, and their error; None: a value has no room."""
    walked = _walk(stages, reach, parameters.data_bits, math.log2(input_scale), [math.log2(w) for w in weights])
    if walked is None:
        return None
    entering, rest = walked
    chain = Chain(parameters.ring_size, parameters.modulus_bits)
    spread = typical(form.linear[0].inputs, bound, input_scale, chain)
    for index, (stage, weight_scale) in enumerate(zip(stages, weights, strict=True)):
        layer, activation = form.linear[index], form.activations[index]
        level, scale = entering[index]
        scaled = replace(stage, weight_scale=weight_scale)
        spread = through_linear(spread, layer, scaled, level=level, scale=2.0**scale, chain=chain)
        scale += math.log2(weight_scale)
        if stage.rescaled:
            scale -= parameters.data_bits[level]
            level -= 1
        primes = [2.0 ** parameters.data_bits[level - step] for step in range(stage.multiplications)]
        spread = through_activation(
            spread, activation, form.measured[index], level=level, scale=2.0**scale, primes=primes, chain=chain
        )
    scale = 2.0 ** entering[-1][1]
    deviation = at_scores(spread, form, answer, scale=scale, answer_scale=2.0**rest, chain=chain)
    return _Scales(input_scale, weights, 2.0**rest, _worst(form) * deviation)


def _worst(form: Circuit) -> float:
    """By how many deviations the error of a head with activations is predicted."""
    if any(known is None for known in form.measured):
        return WORST_OF_UNKNOWN
    return WORST_OF_PRODUCTS if any(one.degree == 2 for one in form.activations) else WORST


def _walk(
    stages: tuple[Stage, ...], reach: _Reach, bits: tuple[int, ...], scale: float, weights: list[float]
) -> tuple[list[tuple[int, float]], int] | None:
    """Level and log2 of the scale before each stage and at the end, and of the answer's weights; None: no room."""
    level = len(bits) - 1
    entering = [(level, scale)]
    for index, (stage, weight) in enumerate(zip(stages, weights, strict=True)):
        scale += weight
        if scale + log2(reach.before[index]) + _GUARD > sum(bits[: level + 1]):
            return None
        if stage.rescaled:
            scale -= bits[level]
            level -= 1
        start = scale
        for step in range(stage.multiplications):
            scale += start if step and stage.degree == 3 else scale
            if scale + log2(reach.after[index]) + _GUARD > sum(bits[: level + 1]):
                return None
            scale -= bits[level]
            level -= 1
        if scale < _LEAST_SCALE:
            return None
        entering.append((level, scale))
    rest = math.floor(bits[0] - _GUARD - scale - log2(reach.scores))
    if rest < 1 or scale + log2(reach.after[-1]) + _GUARD > bits[0]:
        return None
    return entering, rest
