"""A plan with a head's weights as one compiled program."""

from collections.abc import Sequence

from he_infer.ckks.encoded_head import EncodedHead
from he_infer.ckks.engines.native.engine import NativeEngine
from he_infer.ckks.engines.native.kernels.ring import Doubles
from he_infer.ckks.engines.native.program import Program, Recorder
from he_infer.ckks.engines.protocol import EvaluationKeys, Value
from he_infer.ckks.planning.plan import Plan
from he_infer.head.layers import Head


class CompiledHead:
    """An `EncodedHead` that is recorded once; a request is then one call.

    Raises:
        UsageError, HeadError: as `EncodedHead` does.
    """

    def __init__(self, plan: Plan, head: Head, engine: NativeEngine) -> None:
        self._engine = engine
        recorder = Recorder(engine)
        encoded = EncodedHead(plan, head, recorder)
        keys = EvaluationKeys(
            plan.parameters.id, frozenset(plan.galois_elements), plan.relinearise, plan.refreshes, {}, 0
        )
        outputs = encoded.run([recorder.input(plan.input_scale) for _ in range(plan.sources)], keys)
        self._program = Program(
            recorder, outputs, elements=plan.galois_elements, relinearise=plan.relinearise, public=plan.refreshes
        )

    @property
    def weight_bytes(self) -> int:
        """Memory that the encoded weights take, in bytes."""
        return self._program.plains.nbytes

    def run(self, parts: Sequence[bytes], keys: EvaluationKeys) -> list[Value]:
        """Evaluate a request's serialized ciphertexts.

        Returns:
            Values as `EncodedHead.run` returns them; the next run overwrites their registers.

        Raises:
            FormatError: a part is not a fresh ciphertext of the plan.
        """

        def fill(index: int, registers: Doubles, offset: int) -> None:
            self._engine.load_into(parts[index], registers, offset)

        return self._program.run(fill, keys)
