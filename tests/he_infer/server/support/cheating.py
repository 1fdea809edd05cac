"""A server that cheats: for a share of the requests it answers with the last honest answer instead of computing anew.

Its answers look valid: real ciphertexts under the client's key, the MAC, and a receipt signed over this request
and this answer. Run as `python -m tests.he_infer.server.support.cheating SHARE SEED`, with the settings in the
environment as usual.
"""

import random
import sys
from typing import Any

from he_infer.server.inference import InferenceService
from he_infer.server.main import main
from he_infer.server.workers import import_guard


def cheat(share: float, seed: int) -> None:
    honest = InferenceService._evaluate
    dice = random.Random(seed)
    kept: list[Any] = []

    def evaluate(self: InferenceService, caller: Any, plan: Any, record: Any, envelope: Any) -> Any:
        if kept and dice.random() < share:
            return kept[0]
        kept[:] = [honest(self, caller, plan, record, envelope)]
        return kept[0]

    InferenceService._evaluate = evaluate


if __name__ == "__main__":
    import_guard.install()
    cheat(float(sys.argv[1]), int(sys.argv[2]))
    main()
