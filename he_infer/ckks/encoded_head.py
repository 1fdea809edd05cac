"""A plan with a head's weights encoded for one engine, and its evaluation on encrypted values."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from he_infer.ckks.engines.protocol import Engine, EvaluationKeys, PlainValue, Value
from he_infer.ckks.layouts.hidden_layer import Term
from he_infer.ckks.layouts.ring import to_slots
from he_infer.ckks.planning.circuit import Activation, Circuit, build_circuit
from he_infer.ckks.planning.cost import count_primitives, keeps_weights
from he_infer.ckks.planning.order import Digits, Moment
from he_infer.ckks.planning.plan import Plan, Stage
from he_infer.ckks.planning.scale_walk import StageScales, walk_scales
from he_infer.errors import HeadError, UsageError
from he_infer.head.layers import Head


@dataclass(frozen=True)
class _Weights:
    """The weights of one product: encoded once and kept, or encoded at every use."""

    encode: Callable[[], PlainValue]
    kept: PlainValue | None

    @classmethod
    def hold(cls, encode: Callable[[], PlainValue], *, keep: bool) -> "_Weights":
        return cls(encode, encode() if keep else None)

    @property
    def value(self) -> PlainValue:
        return self.encode() if self.kept is None else self.kept


@dataclass(frozen=True)
class _Hidden:
    """A hidden layer, encoded."""

    stage: Stage
    activation: Activation
    products: Mapping[tuple[int, int], Sequence[tuple[Term, _Weights]]]
    """Products by giant step and target."""
    biases: Sequence[PlainValue]
    last: bool


class EncodedHead:
    """A plan with a head's weights encoded for one engine.

    Weights stay encoded in memory if they take less than `cost.KEPT_WEIGHTS`; otherwise every use encodes them again.

    Raises:
        UsageError: the plan was made for another head, or for an engine with other digits.
        HeadError: an answer's scores do not depend on the features.
    """

    def __init__(self, plan: Plan, head: Head, engine: Engine) -> None:
        if head.digest != plan.head_digest:
            raise UsageError("The plan was made for another head. Publish the model again.")
        if plan.digits is Digits.CENTRED and engine.digits is not Digits.CENTRED:
            raise UsageError(
                "The plan was made for an engine with centred digits; this one would err by more than it predicts. "
                "Publish the model for any engine, or serve it with the native one."
            )
        self.plan = plan
        self.engine = engine
        circuit = build_circuit(head)
        self._walk = walk_scales(plan, engine.primes)
        self._keep = keeps_weights(plan, count_primitives(plan, circuit))
        self._hidden = [self._encode_stage(circuit, index, scales) for index, scales in enumerate(self._walk.stages)]
        self._encode_output(circuit)

    def run(self, values: Sequence[Value], keys: EvaluationKeys) -> list[Value]:
        """Evaluate on the input values, in the order of the plan's packing.

        Returns:
            The plan's answers at level 0, re-randomised if the plan refreshes; `answer` selects what is sent.
        """
        answers = self.compute(values, keys)
        return [self.engine.refresh(answer, keys) for answer in answers] if self.plan.refreshes else answers

    def compute(self, values: Sequence[Value], keys: EvaluationKeys) -> list[Value]:
        """Evaluate as `run` does, without re-randomising: such answers must not be sent under `hidden`."""
        engine, held = self.engine, list(values)
        for hidden in self._hidden:
            held = [self._activate(value, hidden, keys) for value in self._linear(held, hidden, keys)]
        answers = []
        for (sources, weights), constant in zip(self._output, self._constants, strict=True):
            answer = engine.dot([held[source] for source in sources], [each.value for each in weights])
            answer = engine.add_plain(answer, constant)
            for _ in range(self._walk.output_level):
                answer = engine.rescale(answer)
            answers.append(answer)
        return answers

    @property
    def encoded(self) -> list[PlainValue]:
        """All encoded vectors that are kept in memory."""
        weights = [each for hidden in self._hidden for held in hidden.products.values() for _, each in held]
        weights += [each for _, held in self._output for each in held]
        plains = [each.kept for each in weights if each.kept is not None]
        return plains + [bias for hidden in self._hidden for bias in hidden.biases] + self._constants

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
            total = engine.dot(inputs, [weights.value for _, weights in products])
            if giant:
                total = engine.rotate(total, giant * layout.images, keys)
            totals[target] = engine.add(totals[target], total) if target in totals else total
        return [self._finish(totals[target], target, hidden, keys) for target in range(layout.targets)]

    def _finish(self, value: Value, target: int, hidden: _Hidden, keys: EvaluationKeys) -> Value:
        engine, stage = self.engine, hidden.stage
        if stage.rescaled and self.plan.order.folds is Moment.AFTER:
            value = self._fold(engine.rescale(value), hidden, keys)
        else:
            value = self._fold(value, hidden, keys)
            if stage.rescaled:
                value = engine.rescale(value)
        return engine.add_plain(value, hidden.biases[target])

    def _fold(self, value: Value, hidden: _Hidden, keys: EvaluationKeys) -> Value:
        engine, layout = self.engine, hidden.stage.layout
        for fold in layout.folds:
            value = engine.add(value, engine.rotate(value, fold * layout.images, keys))
        if layout.conjugated:
            value = engine.add(value, engine.conjugate(value, keys))
        return value

    def _activate(self, value: Value, hidden: _Hidden, keys: EvaluationKeys) -> Value:
        engine, activation = self.engine, hidden.activation
        power = engine.square(value, keys)
        if activation.degree == 2:
            return self._rescale_last(power, hidden)
        power = engine.rescale(power)
        power = engine.add_plain(power, engine.encode_constant(activation.e, power.level, power.scale))
        dropped = engine.drop(value, power.level)
        if activation.degree == 3:
            return self._rescale_last(engine.multiply(power, dropped, keys), hidden)
        power = engine.square(power, keys)
        if activation.f:
            factor = engine.encode_constant(activation.f, power.level, power.scale / dropped.scale)
            power = engine.add(power, engine.dot([dropped], [factor]))
        return self._rescale_last(power, hidden)

    def _rescale_last(self, value: Value, hidden: _Hidden) -> Value:
        """Rescale an activation's last product, unless the last layer's products come first."""
        if hidden.last and self.plan.order.output is Moment.BEFORE:
            return value
        return self.engine.rescale(value)

    def _encode_stage(self, circuit: Circuit, index: int, scales: StageScales) -> _Hidden:
        engine, stage, layer = self.engine, self.plan.stages[index], circuit.linear[index]
        layout = stage.layout
        # With one place a ciphertext and no imaginary part all slots have one weight, which is cheap to encode.
        constant = layout.places == 1 and layout.parts == 1
        products: defaultdict[tuple[int, int], list[tuple[Term, _Weights]]] = defaultdict(list)

        def encode(term: Term) -> PlainValue:
            vector = layout.vector(layer.weight, term)
            if constant:
                return engine.encode_constant(float(vector[0].real), scales.level, scales.weight_scale)
            return engine.encode(vector, scales.level, scales.weight_scale)

        for term in layout.terms(layer.weight):
            weights = _Weights.hold(partial(encode, term), keep=self._keep and not constant)
            products[term.giant, term.target].append((term, weights))
        biases = [
            engine.encode(layout.constant(layer.bias, target), scales.level_of_values, scales.scale_of_values)
            for target in range(layout.targets)
        ]
        last = index == len(self.plan.stages) - 1
        return _Hidden(stage, circuit.activations[index], products, biases, last)

    def _encode_output(self, circuit: Circuit) -> None:
        engine, output, walk = self.engine, self.plan.output, self._walk
        layer = circuit.linear[-1]
        self._output: list[tuple[list[int], list[_Weights]]] = []
        self._constants: list[PlainValue] = []

        def encode(target: int, source: int) -> PlainValue:
            vector = output.vector(layer.weight, target, source)
            if vector is None:
                raise HeadError("A product without weights cannot be encoded.")
            return engine.encode(vector, walk.output_level, self.plan.output_scale)

        for target in range(output.targets):
            sources = [source for source in range(output.sources) if output.occupied(layer.weight, target, source)]
            if not sources:
                raise HeadError(
                    "Some of the head's scores do not depend on the features: their weights are all zero. Leave those "
                    "classes out, or train the head again."
                )
            held = [_Weights.hold(partial(encode, target, source), keep=self._keep) for source in sources]
            self._output.append((sources, held))
            constant = to_slots(output.constant(layer.bias, target))
            self._constants.append(engine.encode(constant, walk.output_level, walk.product_scale))
