"""Modulus chains and scales for layouts: the shortest chain whose predicted error is within the precision."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from he_infer.ckks.layouts.last_layer import Tile, Trace
from he_infer.ckks.parameters import BUDGET, MAX_PRIME, Parameters
from he_infer.ckks.planning.circuit import Circuit
from he_infer.ckks.planning.cost import log2
from he_infer.ckks.planning.noise import (
    WORST,
    WORST_OF_PRODUCTS,
    WORST_OF_UNKNOWN,
    ErrorModel,
    pass_activation,
    pass_linear,
    predict_scores,
    spread_features,
)
from he_infer.ckks.planning.plan import Stage
from he_infer.ckks.planning.reach import Reach
from he_infer.ckks.planning.request import PlanRequest

_LEAST_SCALE = 12.0
"""log2 of the smallest scale of values between layers."""
_GUARD = 1.0
"""Bits of modulus that no value reaches: one for the sign."""


@dataclass(frozen=True)
class Scales:
    """A chain, the scales that go with it, and the error that they lead to."""

    parameters: Parameters
    input: float
    weights: tuple[float, ...]
    """Each hidden layer's weights."""
    output: float
    """The last layer's weights."""
    error: float


def scale_tile(request: PlanRequest, tile: Tile, reach: Reach) -> Scales | None:
    """One prime, split between features and weights so that the error is least; None: the values have no room."""
    found: Scales | None = None
    own = request.parameters
    widest = min(MAX_PRIME, BUDGET[tile.ring_size])
    for bits in range(30, widest + 1) if own is None else (own.modulus_bits[0],):
        parameters = Parameters(tile.ring_size, (bits,)) if own is None else own
        if parameters.levels:
            continue
        model = ErrorModel(parameters)
        room = bits - _GUARD - log2(reach.scores + request.precision)
        for tenths in range(3, 8):
            scale = math.floor(room * tenths / 10)
            rest = math.floor(room - scale)
            if rest < 1 or scale + log2(request.input_bound) > bits - _GUARD:
                continue
            spread = spread_features(tile.inputs, request.input_bound, 2.0**scale, model)
            error = WORST * predict_scores(
                spread, request.circuit, tile, scale=2.0**scale, output_scale=2.0**rest, model=model
            )
            if found is None or error < found.error:
                found = Scales(parameters, 2.0**scale, (), 2.0**rest, error)
        if found is not None and found.error <= request.precision / 2:
            break
    return found


def scale_stages(
    request: PlanRequest, stages: tuple[Stage, ...], output: Trace, reach: Reach, before: Scales | None
) -> Scales | None:
    """The shortest chain whose error is within the precision, else the one with the least error; None: no room.

    `before` is what a similar layout took: it is tried first, since that is nearly always right.
    """
    trial = _Trial(request, stages, output, reach)
    if before is not None:
        kept = trial.predict(before.parameters, before.input, before.weights)
        if kept is not None and (kept.error <= request.precision or before.error > request.precision):
            return kept
    levels = sum(stage.levels for stage in stages)
    found: Scales | None = None
    for parameters in _list_chains(output.ring_size, levels) if request.parameters is None else (request.parameters,):
        if parameters.levels != levels or not parameters.switches_keys:
            continue
        for scales in _list_scalings(parameters, stages, reach):
            tried = trial.predict(parameters, *scales)
            if tried is not None and (found is None or tried.error < found.error):
                found = tried
        if found is not None and found.error <= request.precision:
            break
    return found


def _list_chains(ring_size: int, levels: int) -> Iterator[Parameters]:
    """Chains [q0, q, ..., q, special] within the budget, fewest bits of data first."""
    budget = BUDGET[ring_size]
    options = []
    for first, prime in product(range(30, MAX_PRIME + 1, 3), range(30, MAX_PRIME + 1, 3)):
        data = first + levels * prime
        special = min(MAX_PRIME, max(first, prime), budget - data)
        if special >= 30 and first >= prime - 24:
            options.append((data, -special, abs(first - prime), first, prime, special))
    for _, _, _, first, prime, special in sorted(options):
        yield Parameters(ring_size, (first, *(prime,) * levels, special))


def _list_scalings(
    parameters: Parameters, stages: tuple[Stage, ...], reach: Reach
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


@dataclass(frozen=True, eq=False)
class _Trial:
    """Layouts whose scales are being chosen."""

    request: PlanRequest
    stages: tuple[Stage, ...]
    output: Trace
    reach: Reach

    def predict(self, parameters: Parameters, input_scale: float, weights: tuple[float, ...]) -> Scales | None:
        """The scales with the largest one of the output that has room, and their error; None: a value has no room."""
        walked = self._walk(parameters.data_bits, math.log2(input_scale), [math.log2(w) for w in weights])
        if walked is None:
            return None
        entering, rest = walked
        circuit = self.request.circuit
        model = ErrorModel(parameters)
        spread = spread_features(circuit.linear[0].inputs, self.request.input_bound, input_scale, model)
        for index, (stage, weight_scale) in enumerate(zip(self.stages, weights, strict=True)):
            level, scale = entering[index]
            scaled = replace(stage, weight_scale=weight_scale)
            spread = pass_linear(spread, circuit.linear[index], scaled, level=level, scale=2.0**scale, model=model)
            scale += math.log2(weight_scale)
            if stage.rescaled:
                scale -= parameters.data_bits[level]
                level -= 1
            primes = [2.0 ** parameters.data_bits[level - step] for step in range(stage.multiplications)]
            spread = pass_activation(
                spread,
                circuit.activations[index],
                circuit.measured[index],
                level=level,
                scale=2.0**scale,
                primes=primes,
                model=model,
            )
        scale = 2.0 ** entering[-1][1]
        deviation = predict_scores(spread, circuit, self.output, scale=scale, output_scale=2.0**rest, model=model)
        return Scales(parameters, input_scale, weights, 2.0**rest, _count_deviations(circuit) * deviation)

    def _walk(
        self, bits: tuple[int, ...], scale: float, weights: list[float]
    ) -> tuple[list[tuple[int, float]], int] | None:
        """Level and log2 of the scale before each stage and at the end, and of the output's weights; None: no room."""
        level = len(bits) - 1
        entering = [(level, scale)]
        for index, (stage, weight) in enumerate(zip(self.stages, weights, strict=True)):
            scale += weight
            if scale + log2(self.reach.before[index]) + _GUARD > sum(bits[: level + 1]):
                return None
            if stage.rescaled:
                scale -= bits[level]
                level -= 1
            start = scale
            for step in range(stage.multiplications):
                scale += start if step and stage.degree == 3 else scale
                if scale + log2(self.reach.after[index]) + _GUARD > sum(bits[: level + 1]):
                    return None
                scale -= bits[level]
                level -= 1
            if scale < _LEAST_SCALE:
                return None
            entering.append((level, scale))
        rest = math.floor(bits[0] - _GUARD - scale - log2(self.reach.scores))
        if rest < 1 or scale + log2(self.reach.after[-1]) + _GUARD > bits[0]:
            return None
        return entering, rest


def _count_deviations(circuit: Circuit) -> float:
    """By how many deviations the error of a head with activations is predicted."""
    if any(known is None for known in circuit.measured):
        return WORST_OF_UNKNOWN
    return WORST_OF_PRODUCTS if any(each.degree == 2 for each in circuit.activations) else WORST
