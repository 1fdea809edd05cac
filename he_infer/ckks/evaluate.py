"""The server's side of one plan: bytes in, bytes out."""

from collections.abc import Mapping, Sequence

from he_infer.ckks.answer import write_answer
from he_infer.ckks.encoded_head import EncodedHead
from he_infer.ckks.engines.protocol import EvaluationKeys
from he_infer.ckks.engines.seal import SealEngine
from he_infer.ckks.planning.plan import Plan
from he_infer.errors import MissingKey, NotThisFormat
from he_infer.head.layers import Head

__all__ = ["EvaluationKeys", "Evaluator"]


class Evaluator:
    """The server's side of one plan: parses keys and ciphertexts, computes, serializes. Runs in worker processes."""

    def __init__(self, plan: Plan, head: Head) -> None:
        self.plan = plan
        self._engine = SealEngine(plan.parameters)
        self._head = EncodedHead(plan, head, self._engine)

    @property
    def weight_bytes(self) -> int:
        """Memory that the encoded weights take, as SEAL allocated it."""
        return sum(self._engine.size_of(plain) for plain in self._head.encoded)

    def load_keys(self, parts: Mapping[str, bytes]) -> EvaluationKeys:
        """Parse a client's evaluation keys; see `SealEngine.load_keys`."""
        plan = self.plan
        return self._engine.load_keys(parts, plan.galois_elements, plan.relinearise, plan.refreshes)

    def evaluate(self, parts: Sequence[bytes], keys: EvaluationKeys | None) -> list[bytes]:
        """Serialized ciphertexts of the packed features into the answers' parts; see `answer`."""
        if len(parts) != self.plan.sources:
            raise NotThisFormat(f"The request has {len(parts)} ciphertexts; the plan takes {self.plan.sources}.")
        if keys is None:
            if self.plan.needs_keys:
                raise MissingKey("The plan needs evaluation keys.")
            keys = self._engine.load_keys({}, (), relinearise=False, public=False)
        values = [self._engine.load(data, self.plan.input_scale) for data in parts]
        prime = self._engine.primes[0]
        return [
            write_answer(self.plan, target, self._engine.read_polynomials(answer), prime)
            for target, answer in enumerate(self._head.run(values, keys))
        ]
