"""A plan with a head's weights encoded for one engine, and its evaluation on encrypted values."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from he_infer.ckks import mask
from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, PlainValue, Value
from he_infer.ckks.layouts.hidden_layer import Term
from he_infer.ckks.layouts.ring import to_slots
from he_infer.ckks.planning.circuit import Activation, Circuit, build_circuit
from he_infer.ckks.planning.plan import Plan, Stage
from he_infer.errors import HeadError, UsageError
from he_infer.head.layers import Head


@dataclass(frozen=True)
class _Hidden:
    """A hidden layer, encoded."""

    stage: Stage
    activation: Activation
    products: Mapping[tuple[int, int], Sequence[tuple[Term, PlainValue | float]]]
    """By giant step and target; a number where every slot has the same weight."""
    biases: Sequence[PlainValue]
    weight_scale: float


class EncodedHead:
    """A plan with a head's weights encoded for one engine.

    Raises:
        UsageError: the plan was made for another head.
        HeadError: an answer's scores do not depend on the features.
    """

    def __init__(self, plan: Plan, head: Head, engine: Engine) -> None:
        if head.digest != plan.head_digest:
            raise UsageError("The plan was made for another head.")
        self.plan = plan
        self.engine = engine
        form = build_circuit(head)
        level, scale = plan.parameters.levels, plan.input_scale
        self._hidden: list[_Hidden] = []
        for index, stage in enumerate(plan.stages):
            hidden, level, scale = self._encode(form, index, stage, level, scale)
            self._hidden.append(hidden)
        self._encode_answer(form, scale)

    def run(self, values: Sequence[Value], keys: EvaluationKeys) -> list[Value]:
        """Evaluate on the input values, in the order of the plan's packing."""
        held = list(values)
        for hidden in self._hidden:
            held = [self._activate(value, hidden, keys) for value in self._linear(held, hidden, keys)]
        answers = []
        for target, (sources, plains) in enumerate(self._last):
            answer = self.engine.dot([held[source] for source in sources], plains)
            answer = self.engine.add_plain(answer, self._constants[target])
            answers.append(self._mask(answer, target, keys) if self.plan.refreshes else answer)
        return answers

    @property
    def encoded(self) -> list[PlainValue]:
        """Everything encoded that is kept."""
        products = [plain for hidden in self._hidden for held in hidden.products.values() for _, plain in held]
        plains = [plain for plain in products if isinstance(plain, PlainValue)]
        plains += [bias for hidden in self._hidden for bias in hidden.biases]
        return plains + [plain for _, held in self._last for plain in held] + self._constants

    def _linear(self, values: list[Value], hidden: _Hidden, keys: EvaluationKeys) -> list[Value]:
        engine, layout = self.engine, hidden.stage.layout
        rotated = {
            (source, step): engine.rotate(value, step * layout.images, keys) if step else value
            for source, value in enumerate(values)
            for step in (0, *layout.baby)
        }
        totals: dict[int, Value] = {}
        for (giant, target), products in hidden.products.items():
            inputs = [rotated[term.source, term.baby] for term, _ in products]
            plains = [
                engine.encode_constant(weight, inputs[0].level, hidden.weight_scale)
                if isinstance(weight, float)
                else weight
                for _, weight in products
            ]
            partial = engine.dot(inputs, plains)
            if giant:
                partial = engine.rotate(partial, giant * layout.images, keys)
            totals[target] = engine.add(totals[target], partial) if target in totals else partial
        return [self._finish(totals[target], target, hidden, keys) for target in range(layout.targets)]

    def _finish(self, value: Value, target: int, hidden: _Hidden, keys: EvaluationKeys) -> Value:
        engine, layout = self.engine, hidden.stage.layout
        for fold in layout.folds:
            value = engine.add(value, engine.rotate(value, fold * layout.images, keys))
        if layout.conjugated:
            value = engine.add(value, engine.conjugate(value, keys))
        # Last, though key switches of fewer primes are cheaper: their error is then one of the product's large scale.
        if hidden.stage.rescaled:
            value = engine.rescale(value)
        return engine.add_plain(value, hidden.biases[target])

    def _activate(self, value: Value, hidden: _Hidden, keys: EvaluationKeys) -> Value:
        engine, activation = self.engine, hidden.activation
        power = engine.rescale(engine.square(value, keys))
        if activation.degree == 2:
            return power
        power = engine.add_plain(power, engine.encode_constant(activation.e, power.level, power.scale))
        dropped = engine.drop(value, power.level)
        if activation.degree == 3:
            return engine.rescale(engine.multiply(power, dropped, keys))
        power = engine.square(power, keys)
        if activation.f:
            factor = engine.encode_constant(activation.f, power.level, power.scale / dropped.scale)
            power = engine.add(power, engine.dot([dropped], [factor]))
        return engine.rescale(power)

    def _mask(self, value: Value, target: int, keys: EvaluationKeys) -> Value:
        """Hide everything but the scores: a fresh encryption of zero, and noise in all coefficients without a score.

        The noise is uniform modulo the prime, from the system's generator; `mask` has its statistical distance from
        what shows nothing. The second polynomial is hidden by ring-LWE, see `Engine.refresh`.
        """
        engine = self.engine
        value = engine.refresh(value, keys)
        noise = mask.draw(engine.primes[0], self.plan.parameters.ring_size)
        scores = self.plan.output.read(target)
        for part, times in ((noise.upper, mask.ADDITIONS), (noise.lower, 1)):
            part[scores] = 0.0
            encoded = engine.encode(to_slots(part / value.scale), value.level, value.scale)
            for _ in range(times):
                value = engine.add_plain(value, encoded)
        return value

    def _encode(self, form: Circuit, index: int, stage: Stage, level: int, scale: float) -> tuple[_Hidden, int, float]:
        """A stage's weights and biases, and the level and scale after it."""
        engine, layout = self.engine, stage.layout
        layer = form.linear[index]
        # The exact prime, so that rescaling gives back the exact scale.
        weight_scale = float(engine.primes[level]) if stage.rescaled else stage.weight_scale
        products: defaultdict[tuple[int, int], list[tuple[Term, PlainValue | float]]] = defaultdict(list)
        for term in layout.terms(layer.weight):
            vector = layout.vector(layer.weight, term)
            constant = layout.places == 1 and layout.parts == 1
            encoded = float(vector[0].real) if constant else engine.encode(vector, level, weight_scale)
            products[term.giant, term.target].append((term, encoded))
        scale *= weight_scale
        if stage.rescaled:
            scale /= engine.primes[level]
            level -= 1
        biases = [engine.encode(layout.constant(layer.bias, target), level, scale) for target in range(layout.targets)]
        hidden = _Hidden(stage, form.activations[index], products, biases, weight_scale)
        start = scale
        for step in range(stage.multiplications):
            scale *= start if step and stage.degree == 3 else scale
            scale /= engine.primes[level]
            level -= 1
        return hidden, level, scale

    def _encode_answer(self, form: Circuit, scale: float) -> None:
        engine, answer = self.engine, self.plan.output
        layer = form.linear[-1]
        self._last: list[tuple[list[int], list[PlainValue]]] = []
        self._constants: list[PlainValue] = []
        for target in range(answer.targets):
            vectors = [(source, answer.vector(layer.weight, target, source)) for source in range(answer.sources)]
            kept = [(source, vector) for source, vector in vectors if vector is not None]
            if not kept:
                raise HeadError(
                    "Some of the head's scores do not depend on the features: their weights are all zero. Leave those "
                    "classes out, or train the head again."
                )
            plains = [engine.encode(vector, 0, self.plan.output_scale) for _, vector in kept]
            self._last.append(([source for source, _ in kept], plains))
            constant = to_slots(answer.constant(layer.bias, target))
            self._constants.append(engine.encode(constant, 0, scale * self.plan.output_scale))
