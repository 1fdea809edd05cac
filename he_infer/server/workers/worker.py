"""The worker process: the only place where bytes from outside are parsed by SEAL.

It is forked from a clean fork server, installs the import guard, bounds itself, and answers one frame at a time on its
pipe. It has no database, no store, no network and no key material but the evaluation keys it is handed.
"""

import signal
from multiprocessing.connection import Connection
from typing import Any

from he_infer.errors import HeInferError
from he_infer.server.workers import import_guard, limits, pipe
from he_infer.server.workers.limits import WorkerConfig
from he_infer.server.workers.models import ModelHost, NeedsKeys
from he_infer.wire.envelope import seal_format
from he_infer.wire.refusals import Code, Refused


def main(connection: "Connection[bytes, bytes]", config: WorkerConfig) -> None:
    """Serve frames until the other side closes the pipe."""
    import_guard.install()
    # Ctrl-C in a terminal reaches the whole group; the server decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    limits.apply(config.limits)
    limits.grant_cpu(config.limits)
    try:
        host = ModelHost(config.bundles, config.batches, config.precision, config.key_cache)
        connection.send_bytes(
            pipe.encode({"models": [model.model_dump() for model in host.describe()], "engine": seal_format()})
        )
    except BrokenPipeError:
        return
    except (HeInferError, OSError) as error:
        connection.send_bytes(pipe.encode({"error": Code.INTERNAL.value, "message": " ".join(str(error).split())}))
        return
    try:
        host.warm()
        while True:
            request = connection.recv_bytes()
            limits.grant_cpu(config.limits)
            connection.send_bytes(_answer(connection, host, request))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(connection: "Connection[bytes, bytes]", host: ModelHost, request: bytes) -> bytes:
    try:
        header, parts = pipe.decode(request)
        answer, out = _run(connection, host, header, parts)
        return pipe.encode(answer, out)
    except Refused as refused:
        return pipe.encode({"error": refused.code.value, "message": refused.message})
    except MemoryError:
        return pipe.encode(
            {"error": Code.WORKER_LIMIT.value, "message": "The evaluation needed more memory than the server allows."}
        )


def _run(
    connection: "Connection[bytes, bytes]", host: ModelHost, header: dict[str, Any], parts: list[bytes]
) -> tuple[dict[str, Any], list[bytes]]:
    match header:
        case {"do": "check_keys", "plan": str(plan), "key_id": str(key_id), "names": list(names)}:
            host.check_keys(plan, key_id, dict(zip(names, parts, strict=True)))
            return {}, []
        case {"do": "evaluate", "plan": str(plan), "key_id": key_id, "names": list(names)}:
            try:
                out, seconds = host.evaluate(plan, key_id, parts)
            except NeedsKeys:
                connection.send_bytes(pipe.encode({"needs": "keys"}))
                said, supplied = pipe.decode(connection.recv_bytes())
                if "abort" in said:
                    raise Refused(Code.STORAGE, "The evaluation keys could not be read.") from None
                host.load_keys(plan, str(key_id), dict(zip(names, supplied, strict=True)))
                out, seconds = host.evaluate(plan, key_id, parts)
            return {"seconds": seconds}, out
        case _:
            raise Refused(Code.INTERNAL, "The server asked its worker for something that it does not know.")
