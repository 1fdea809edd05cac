"""Tries a client's evaluation keys in a process of their own, before they are stored: parsed, and used once.

The process ends afterwards, whatever the outcome. So keys that hang, inflate or crash the parser cost their
own registration and nothing else: no other client's request waits behind them, and no worker meets them.
"""

import os
import signal
from multiprocessing.connection import Connection
from typing import Any

from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.trial import try_keys
from he_infer.errors import EngineError, FormatError, KeyProblem, SecretKeyRefused, UsageError
from he_infer.server.workers import confinement, import_guard, limits, pipe
from he_infer.server.workers.limits import WorkerConfig
from he_infer.wire.refusals import Code, Refused

_NICE = 10
"""Added niceness: a registration is less urgent than a classification, so the workers come first."""


def main(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Answer one task, then end."""
    import_guard.install()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(_NICE)
    limits.apply(config.limits)
    limits.grant_cpu(config.limits)
    missing = confinement.confine()
    try:
        pipe.send(connection, {"unconfined": missing})
        pipe.send(connection, _answer(*pipe.receive(connection)))
    except (EOFError, OSError):
        return


def _answer(task: dict[str, Any], parts: list[bytes]) -> dict[str, Any]:
    try:
        _try_keys(Plan.from_json(task["plan"]), dict(zip(task["names"], parts, strict=True)))
    except Refused as refused:
        return {"error": refused.code.value, "message": refused.message}
    except MemoryError:
        message = "The evaluation keys take more memory than the server allows for a registration."
        return {"error": Code.BAD_KEYS.value, "message": message}
    return {}


def _try_keys(plan: Plan, parts: dict[str, bytes]) -> None:
    """Load keys as a worker would, and use each once.

    Raises:
        Refused: `secret_key`, `bad_keys`.
    """
    try:
        try_keys(plan, parts)
    except SecretKeyRefused as error:
        raise Refused(Code.SECRET_KEY, " ".join(str(error).split())) from error
    except (KeyProblem, FormatError, UsageError, EngineError) as error:
        raise Refused(Code.BAD_KEYS, " ".join(str(error).split())) from error
    except (ValueError, RuntimeError, IndexError) as error:  # what pybind11 makes of SEAL's exceptions
        raise Refused(Code.BAD_KEYS, "The evaluation keys parse, but SEAL cannot use them.") from error
