"""The worker process: the only place where bytes from outside are parsed by SEAL.

It is forked from a clean fork server, installs the import guard, bounds itself, drops its rights, and answers one
task at a time on its pipe. It has no database, no store, no network and no key material but the evaluation keys it is
handed.
"""

import signal
from multiprocessing.connection import Connection
from typing import Any

from he_infer.errors import FormatError, HeInferError
from he_infer.server.workers import confinement, import_guard, limits, pipe
from he_infer.server.workers.limits import WorkerConfig
from he_infer.server.workers.models import ModelHost, NeedsKeys
from he_infer.wire.envelope import seal_format
from he_infer.wire.refusals import Code, Refused

Reply = tuple[dict[str, Any], list[bytes]]


def main(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Answer tasks until the other side closes the pipe."""
    import_guard.install()
    # Ctrl-C in a terminal reaches the whole group; the server decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    limits.apply(config.limits)
    limits.grant_cpu(config.limits)
    try:
        # Before the first byte from outside: a bundle too is a file that somebody sent.
        missing = confinement.confine(config.bundles)
        host = ModelHost(config.bundles, config.batches, config.precision, config.key_cache, config.engine)
        host.warm()
        models = [model.model_dump() for model in host.describe()]
        hello = {"models": models, "engine": seal_format(), "unconfined": missing, "bodies": host.measure_bodies()}
        pipe.send(connection, hello)
    except BrokenPipeError:
        return
    except (HeInferError, OSError) as error:
        pipe.send(connection, {"error": Code.INTERNAL.value, "message": " ".join(str(error).split())})
        return
    try:
        while True:
            header, parts = pipe.receive(connection)
            limits.grant_cpu(config.limits)
            pipe.send(connection, *_answer(connection, host, header, parts))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(
    connection: "Connection[bytes, bytes]", host: ModelHost, header: dict[str, Any], parts: list[bytes]
) -> Reply:
    try:
        return _run(connection, host, header, parts)
    except Refused as refused:
        return {"error": refused.code.value, "message": refused.message}, []
    except FormatError:
        return {"error": Code.INTERNAL.value, "message": "The server sent its worker a malformed message."}, []
    except MemoryError:
        message = "The evaluation needed more memory than the server allows."
        return {"error": Code.WORKER_LIMIT.value, "message": message}, []


def _run(connection: "Connection[bytes, bytes]", host: ModelHost, header: dict[str, Any], parts: list[bytes]) -> Reply:
    match header:
        case {"do": "evaluate", "client": str(client), "plan": str(plan), "key_id": key_id, "names": list(names)}:
            try:
                out, seconds = host.evaluate(plan, key_id, parts)
            except NeedsKeys:
                pipe.send(connection, {"needs": "keys"})
                answer, supplied = pipe.receive(connection)
                if "abort" in answer:
                    raise Refused(Code.STORAGE, "The evaluation keys could not be read.") from None
                host.load_keys(client, plan, str(key_id), dict(zip(names, supplied, strict=True)))
                out, seconds = host.evaluate(plan, key_id, parts)
            return {"seconds": seconds}, out
        case _:
            raise Refused(Code.INTERNAL, "The server asked its worker for something that it does not know.")
