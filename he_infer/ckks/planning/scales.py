"""Modulus chains and scales for layouts: the shortest chain whose predicted error is within the precision."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from he_infer.ckks.layouts.last_layer import OutputLayout, Tile, Trace
from he_infer.ckks.parameters import BUDGET, Parameters
from he_infer.ckks.planning.circuit import Circuit
from he_infer.ckks.planning.cost import log2
from he_infer.ckks.planning.noise import (
    WORST,
    WORST_OF_PRODUCTS,
    WORST_OF_UNKNOWN,
    ErrorModel,
    Spread,
    pass_activation,
    pass_linear,
    predict_scores,
    spread_features,
)
from he_infer.ckks.planning.order import Moment, Order
from he_infer.ckks.planning.plan import MAX_ANSWER_BITS, AnswerForm, Stage
from he_infer.ckks.planning.reach import Reach
from he_infer.ckks.planning.request import PlanRequest

PREFERRED_PRIME = 50
"""Bits of the largest primes that are tried first: the native engine computes modulo primes of at most this size."""
_LEAST_SCALE = 12.0
"""log2 of the smallest scale of values between layers."""
_GUARD = 1.0
"""Bits of modulus kept free above the largest value: one for the sign."""
_GUARD_OF_PAIRS = 1.5
"""Bits kept free if scores are read in pairs: a coefficient, or a sum of two, is up to sqrt(2) times a score."""
_LEAST_NOISE = 16
"""Least width of the server's noise in residues, so that its integers are fine enough."""
_DEEP = 5
"""Number of levels from which every prime size is tried."""
_CUT = 32.0
"""Precision divided by the standard deviation of the error from an answer's cut bits."""


@dataclass(frozen=True)
class Scales:
    """A modulus chain, its scales, and the predicted error."""

    parameters: Parameters
    input: float
    weights: tuple[float, ...]
    """Scale of each hidden layer's weights."""
    output: float
    """Scale of the last layer's weights."""
    answer: AnswerForm
    error: float
    """Predicted error in units of the head's scores."""


def form_answer(request: PlanRequest, parameters: Parameters, output: OutputLayout, answer_scale: float) -> AnswerForm:
    """Choose the noise and the bits of an answer: both as coarse as the precision allows.

    The noise takes a share of the precision. If a score is one number, the noise is uniform over twice the share. If it
    is read from the 2 B coefficients of B images, the share is five standard deviations of the noise in a score.
    """
    images = output.images if isinstance(output, Trace) and output.images > 1 else 1
    unit = request.precision_of_circuit * answer_scale
    reach = unit * request.noise_share
    width = 2 * reach if images == 1 else reach * math.sqrt(12 / images) / WORST
    cut = math.sqrt((1 + 2 * parameters.ring_size / 3) / 12 * images)
    bits = max(8, math.ceil(parameters.modulus_bits[0] + math.log2(cut * _CUT / unit)))
    return AnswerForm(min(MAX_ANSWER_BITS, bits), math.floor(width) if request.policy == "hidden" else 0)


def _sum_errors(request: PlanRequest, deviations: float, deviation: float) -> float:
    """Return the largest error in units of a score, from the encryption error's standard deviation in circuit units."""
    precision = request.precision_of_circuit
    drowned = precision * request.noise_share if request.policy == "hidden" else 0.0
    return (math.hypot(deviations * deviation, WORST * precision / _CUT) + drowned) / request.circuit.gain


def scale_tile(request: PlanRequest, tile: Tile, reach: Reach, largest: int) -> Scales | None:
    """Choose a prime and the scales of features and weights with the least error; None: no prime is large enough.

    `largest`: bits of the largest prime to try.
    """
    found: Scales | None = None
    own = request.parameters
    widest = min(largest, BUDGET[tile.ring_size])
    for bits in range(30, widest + 1) if own is None else (own.modulus_bits[0],):
        parameters = Parameters(tile.ring_size, (bits,)) if own is None else own
        if parameters.levels:
            continue
        model = ErrorModel(parameters, request.digits)
        # SEAL encodes at scales of two bits less than the modulus at the most.
        room = min(bits - _GUARD - log2(reach.scores + request.precision_of_circuit), bits - 2)
        for tenths in range(3, 8):
            scale = math.floor(room * tenths / 10)
            rest = math.floor(room - scale)
            if rest < 1 or scale + log2(request.input_bound) > bits - _GUARD:
                continue
            answer_scale = 2.0 ** (scale + rest)
            form = form_answer(request, parameters, tile, answer_scale)
            if request.policy == "hidden" and form.noise < _LEAST_NOISE:
                continue
            spread = spread_features(tile.inputs, request.input_bound, 2.0**scale, model)
            deviation = predict_scores(
                spread,
                request.circuit,
                tile,
                scale=2.0**scale,
                output_scale=2.0**rest,
                answer_scale=answer_scale,
                model=model,
            )
            error = _sum_errors(request, WORST, deviation)
            if found is None or error < found.error:
                found = Scales(parameters, 2.0**scale, (), 2.0**rest, form, error)
        if found is not None and found.error <= request.effective_precision:
            break
    return found


def scale_stages(
    request: PlanRequest,
    stages: tuple[Stage, ...],
    output: Trace,
    order: Order,
    reach: Reach,
    before: Scales | None,
    largest: int,
) -> Scales | None:
    """Find the shortest chain whose error is within the precision, else the one with the least error.

    Returns None if no chain is large enough for the values. `before` is the result for a similar layout: it is tried
    first, since it is nearly always right. `largest`: bits of the largest prime to try.
    """
    precision = request.effective_precision
    trial = _Trial(request, stages, output, order, reach)
    if before is not None:
        kept = trial.predict(before.parameters, before.input, before.weights)
        if kept is not None and (kept.error <= precision or before.error > precision):
            return kept
    levels = sum(stage.levels for stage in stages)
    found: Scales | None = None
    own = request.parameters
    for parameters in _list_chains(output.ring_size, levels, largest) if own is None else (own,):
        if parameters.levels != levels or not parameters.switches_keys:
            continue
        for scales in _list_scalings(parameters, stages, reach):
            tried = trial.predict(parameters, *scales)
            if tried is not None and (found is None or tried.error < found.error):
                found = tried
        if found is not None and found.error <= precision:
            break
    return found


def _list_chains(ring_size: int, levels: int, largest: int) -> Iterator[Parameters]:
    """List chains [first, last, prime, ..., prime, special] within the budget, fewest bits of data first.

    The last rescaling divides by `last`. If the last layer's products come before it, the scale of their weights may be
    as large as `last`, so larger sizes of it are tried too.
    """
    budget = BUDGET[ring_size]
    options = set()
    sizes = sorted({*range(30, largest + 1, 3), largest})
    # In deep heads the difference between twice the scale and the prime adds up over the layers: every bit counts.
    primes_between = range(30, largest + 1) if levels >= _DEEP else sizes
    for first, prime in product(sizes, primes_between):
        for last in {prime, max(prime, (prime + largest) // 2), largest}:
            primes = (first, last, *(prime,) * (levels - 1))
            special = min(largest, max(primes), budget - sum(primes))
            if special >= 30 and first >= prime - 24:
                options.add((sum(primes), -special, abs(first - prime), primes, special))
    for _, _, _, primes, special in sorted(options):
        yield Parameters(ring_size, (*primes, special))


def _list_scalings(
    parameters: Parameters, stages: tuple[Stage, ...], reach: Reach
) -> Iterator[tuple[float, tuple[float, ...]]]:
    """List scales of the input and of each stage's weights, as powers of two."""
    prime = parameters.data_bits[-1]
    if stages[0].rescaled:
        # The linear map's product is divided by the prime that is also the weights' scale.
        for scale in range(prime - 6, prime + 1):
            yield 2.0**scale, (2.0**prime,) * len(stages)
        return
    # A square at scale 2^(2s) must fit into all primes of its level; after rescaling its scale is 2^(2s - prime).
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
    """Predicts the error of one layout for the scales that are tried."""

    request: PlanRequest
    stages: tuple[Stage, ...]
    output: Trace
    order: Order
    reach: Reach

    def predict(self, parameters: Parameters, input_scale: float, weights: tuple[float, ...]) -> Scales | None:
        """Choose the largest output scale that fits and predict the error; None: the modulus is too small."""
        bits = parameters.data_bits
        walked = self._walk(bits, math.log2(input_scale), [math.log2(w) for w in weights])
        if walked is None:
            return None
        entering, rest = walked
        level, scale = entering[-1]
        answer_scale = 2.0 ** (scale + rest - sum(bits[1 : level + 1]))
        form = form_answer(self.request, parameters, self.output, answer_scale)
        if self.request.policy == "hidden" and form.noise < _LEAST_NOISE:
            return None
        model = ErrorModel(parameters, self.request.digits)
        circuit = self.request.circuit
        deviation = predict_scores(
            self._spread(parameters, model, input_scale, weights, entering),
            circuit,
            self.output,
            scale=2.0**scale,
            output_scale=2.0**rest,
            answer_scale=answer_scale,
            model=model,
        )
        error = _sum_errors(self.request, _count_deviations(circuit), deviation)
        return Scales(parameters, input_scale, weights, 2.0**rest, form, error)

    def _spread(
        self,
        parameters: Parameters,
        model: ErrorModel,
        input_scale: float,
        weights: tuple[float, ...],
        entering: list[tuple[int, float]],
    ) -> Spread:
        """Predict the spread of the last layer's inputs."""
        circuit, bits = self.request.circuit, parameters.data_bits
        spread = spread_features(circuit.linear[0].inputs, self.request.input_bound, input_scale, model)
        for index, (stage, weight_scale) in enumerate(zip(self.stages, weights, strict=True)):
            level, scale = entering[index]
            scaled = replace(stage, weight_scale=weight_scale)
            folds = self.order.folds if stage.rescaled else Moment.BEFORE
            spread = pass_linear(
                spread, circuit.linear[index], scaled, level=level, scale=2.0**scale, model=model, folds=folds
            )
            scale += math.log2(weight_scale)
            if stage.rescaled:
                scale -= bits[level]
                level -= 1
            spread = pass_activation(
                spread,
                circuit.activations[index],
                circuit.measured[index],
                level=level,
                scale=2.0**scale,
                primes=[2.0 ** bits[level - step] for step in range(stage.multiplications)],
                model=model,
                postponed=self._is_postponed(index, stage.multiplications - 1),
            )
        return spread

    def _is_postponed(self, index: int, step: int) -> bool:
        """Tell whether an activation's product is rescaled only after the last layer."""
        last = index == len(self.stages) - 1 and step == self.stages[index].multiplications - 1
        return last and self.order.output is Moment.BEFORE

    def _walk(
        self, bits: tuple[int, ...], scale: float, weights: list[float]
    ) -> tuple[list[tuple[int, float]], int] | None:
        """Return level and log2 scale before each stage and at the end, and of the output weights; None: no room."""
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
                if not self._is_postponed(index, step):
                    scale -= bits[level]
                    level -= 1
            if scale < _LEAST_SCALE:
                return None
            entering.append((level, scale))
        room = sum(bits[: level + 1])
        # SEAL encodes at scales of two bits less than the modulus at the most.
        rest = math.floor(min(room - _GUARD_OF_PAIRS - log2(self.reach.scores), room - 2) - scale)
        if rest < 1 or scale + log2(self.reach.after[-1]) + _GUARD > room:
            return None
        return entering, rest


def _count_deviations(circuit: Circuit) -> float:
    """Return the largest predicted error of a head with activations, in standard deviations."""
    if any(known is None for known in circuit.measured):
        return WORST_OF_UNKNOWN
    return WORST_OF_PRODUCTS if any(each.degree == 2 for each in circuit.activations) else WORST
