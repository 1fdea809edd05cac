"""A plan with a head's weights as one compiled program."""

from collections.abc import Sequence

from he_infer.ckks.encoded_head import EncodedHead
from he_infer.ckks.engines.native.answer_writer import AnswerWriter
from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.program import Program, Recorder
from he_infer.ckks.engines.protocol import EvaluationKeys
from he_infer.ckks.planning.plan import Plan
from he_infer.head.layers import Head


class CompiledHead:
    """An `EncodedHead` that is recorded once: a request is parsed, evaluated and answered by one call each.

    Raises:
        UsageError, HeadError: as `EncodedHead` does.
    """

    def __init__(self, plan: Plan, head: Head, engine: NativeEngine) -> None:
        recorder = Recorder(engine)
        encoded = EncodedHead(plan, head, recorder)
        keys = EvaluationKeys(
            plan.parameters.id, frozenset(plan.galois_elements), plan.relinearise, plan.refreshes, {}, 0
        )
        outputs = encoded.compute([recorder.input(plan.input_scale) for _ in range(plan.sources)], keys)
        self.program = Program(
            recorder, outputs, elements=plan.galois_elements, relinearise=plan.relinearise, public=plan.refreshes
        )
        self._writer = AnswerWriter(plan, engine)

    @property
    def weight_bytes(self) -> int:
        """Memory that the encoded weights take, in bytes."""
        return self.program.plains.nbytes

    def answer(self, parts: Sequence[bytes], keys: EvaluationKeys) -> list[bytes]:
        """Compute the answers' serialized parts from a request's; see `answer`.

        Raises:
            FormatError: a part is not a fresh ciphertext of the plan.
        """
        self.program.run(parts, keys)
        return self._writer.write(self.program.registers, self.program.places, keys)
