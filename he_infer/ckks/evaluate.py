"""The server's side of one plan: bytes in, bytes out."""

from collections.abc import Mapping, Sequence

from he_infer.ckks.answer import write_answer
from he_infer.ckks.encoded_head import EncodedHead
from he_infer.ckks.engines.choice import EngineChoice
from he_infer.ckks.engines.protocol import EvaluationKeys
from he_infer.ckks.engines.seal import SealEngine
from he_infer.ckks.planning.circuit import build_circuit
from he_infer.ckks.planning.cost import count_primitives, keeps_weights
from he_infer.ckks.planning.plan import Plan
from he_infer.errors import MissingKey, NotThisFormat
from he_infer.head.layers import Head

__all__ = ["EvaluationKeys", "Evaluator"]


class Evaluator:
    """The server's side of one plan: parses keys and ciphertexts, computes, serializes. Runs in worker processes.

    The native engine computes a plan whose weights are kept as one compiled program, and any other step by step.

    Args:
        plan: the plan to evaluate.
        head: the head that the plan was made for, with its weights.
        choice: the engine; SEAL by default.

    Raises:
        UsageError: the plan was made for another head, or for the native engine's digits.
        HeadError: an answer's scores do not depend on the features.
    """

    def __init__(self, plan: Plan, head: Head, choice: EngineChoice | None = None) -> None:
        self.plan = plan
        self._engine = (choice or EngineChoice()).make(plan.parameters)
        self.engine_name = "seal" if isinstance(self._engine, SealEngine) else "native"
        keeps = keeps_weights(plan, count_primitives(plan, build_circuit(head)))
        if isinstance(self._engine, SealEngine) or not keeps:
            self._steps: EncodedHead | None = EncodedHead(plan, head, self._engine)
            return
        from he_infer.ckks.compiled_head import CompiledHead

        self._steps = None
        self._compiled = CompiledHead(plan, head, self._engine)

    @property
    def weight_bytes(self) -> int:
        """Memory that the engine allocated for the encoded weights, in bytes."""
        if self._steps is None:
            return self._compiled.weight_bytes
        return sum(self._engine.size_of(plain) for plain in self._steps.encoded)

    def load_keys(self, parts: Mapping[str, bytes]) -> EvaluationKeys:
        """Parse a client's evaluation keys; see `SealEngine.load_keys`."""
        plan = self.plan
        return self._engine.load_keys(parts, plan.galois_elements, plan.relinearise, plan.refreshes)

    def evaluate(self, parts: Sequence[bytes], keys: EvaluationKeys | None) -> list[bytes]:
        """Compute the answers' serialized parts from the serialized ciphertexts of a request; see `answer`."""
        if len(parts) != self.plan.sources:
            raise NotThisFormat(f"The request has {len(parts)} ciphertexts; the plan takes {self.plan.sources}.")
        if keys is None:
            if self.plan.needs_keys:
                raise MissingKey(
                    "The plan needs evaluation keys, and none were given. Register them with 'he-infer keys register'."
                )
            keys = self._engine.load_keys({}, (), relinearise=False, public=False)
        if self._steps is None:
            return self._compiled.answer(parts, keys)
        values = [self._engine.load(data, self.plan.input_scale) for data in parts]
        return [
            write_answer(self.plan, target, self._engine.read_polynomials(answer), self._engine.primes[0])
            for target, answer in enumerate(self._steps.run(values, keys))
        ]
