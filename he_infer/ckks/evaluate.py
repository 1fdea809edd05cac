"""A head under encryption: encoded weights, kept; requests parsed, evaluated and serialized."""

import math
import secrets
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.engine import Engine, EvaluationKeys, PlainValue, Value
from he_infer.ckks.head import Head
from he_infer.ckks.plan import Plan, Stage, squares
from he_infer.ckks.seal import SealEngine
from he_infer.errors import MissingKey, NotThisFormat, UsageError

__all__ = ["EvaluationKeys", "Evaluator"]

_MASK_BITS = 40


class Stages:
    """The stages of a plan with their weights encoded for one engine."""

    def __init__(self, plan: Plan, head: Head, engine: Engine) -> None:
        if head.digest != plan.head_digest:
            raise UsageError("The plan was made for another head.")
        self.plan = plan
        self.engine = engine
        self._layers = squares(head)
        self._weights: list[list[PlainValue]] = []
        level = plan.parameters.levels
        for stage, layer in zip(plan.stages, self._layers, strict=True):
            # The exact prime, so that rescaling gives back the exact scale.
            scale = float(engine.primes[level]) if stage.rescaled else stage.weight_scale
            vectors = stage.layout.weights(layer.weight)
            self._weights.append([engine.encode(vector, level, scale) for vector in vectors])
            level -= stage.rescaled + stage.squared

    def run(self, value: Value, keys: EvaluationKeys) -> Value:
        """Evaluate on one input value."""
        engine = self.engine
        last = len(self.plan.stages) - 1
        for index, stage in enumerate(self.plan.stages):
            value = self._linear(value, stage, self._weights[index], keys)
            bias = stage.layout.bias(self._layers[index].bias)
            if index == last:
                value = engine.drop(value, 0)
                bias = bias + self._mask(stage, value)
            value = engine.add_plain(value, engine.encode(bias, value.level, value.scale))
            if stage.squared:
                value = engine.rescale(engine.square(value, keys))
        return value

    def _linear(self, value: Value, stage: Stage, weights: list[PlainValue], keys: EvaluationKeys) -> Value:
        engine, layout = self.engine, stage.layout
        inputs = [value]
        inputs += [engine.rotate(value, step, keys) for step in range(1, layout.baby)]
        total: Value | None = None
        for giant in range(layout.giant):
            block = weights[giant * layout.baby : (giant + 1) * layout.baby]
            partial = engine.multiply_plain(inputs[0], block[0])
            for held, weight in zip(inputs[1:], block[1:], strict=True):
                partial = engine.add(partial, engine.multiply_plain(held, weight))
            if giant:
                partial = engine.rotate(partial, giant * layout.baby, keys)
            total = partial if total is None else engine.add(total, partial)
        if total is None:
            raise UsageError("A stage without diagonals cannot be evaluated.")
        if stage.rescaled:
            total = engine.rescale(total)
        for fold in layout.folds:
            total = engine.add(total, engine.rotate(total, fold, keys))
        return total

    def _mask(self, stage: Stage, value: Value) -> NDArray[np.float64]:
        """Fresh uniform noise in every slot that no score stands in, under the policy `hidden`."""
        layout = stage.layout
        noise = np.zeros(layout.slots)
        if self.plan.policy == "hidden" and layout.kind == "blocks":
            slot = np.arange(layout.slots)
            unused = (slot % layout.inputs != 0) | (slot // layout.inputs >= layout.outputs)
            room = 2.0 ** (math.log2(self.engine.primes[0] / value.scale) - 3.0)
            raw = np.frombuffer(secrets.token_bytes(8 * layout.slots), dtype="<i8")
            noise[unused] = raw[unused] / 2.0**63 * room
        return noise


class Evaluator:
    """The server's side of one plan: parses keys and ciphertexts, computes, serializes. Runs in worker processes."""

    def __init__(self, plan: Plan, head: Head) -> None:
        self.plan = plan
        self._engine = SealEngine(plan.parameters)
        self._stages = Stages(plan, head, self._engine)

    def load_keys(self, parts: Mapping[str, bytes]) -> EvaluationKeys:
        """Parse a client's evaluation keys; see `SealEngine.load_keys`."""
        return self._engine.load_keys(parts, self.plan.galois_elements, self.plan.relinearise)

    def evaluate(self, parts: Sequence[bytes], keys: EvaluationKeys | None) -> list[bytes]:
        """Serialized ciphertexts of the packed features into those of the scores."""
        if len(parts) != 1:
            raise NotThisFormat(f"The request has {len(parts)} ciphertexts; the plan takes one.")
        if keys is None:
            raise MissingKey("The plan needs evaluation keys.")
        value = self._engine.load(parts[0], self.plan.input_scale)
        return [self._engine.dump(self._stages.run(value, keys))]
