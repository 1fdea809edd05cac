"""Processor time of the parts of a classification request in the server's own process, each by itself.

Each part is repeated at once, so that its code and data are in the processor's caches: in a request they often are not.

Example: `python -m tests.he_infer.server.support.bench_parts`
"""

import asyncio
import contextlib
import json
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from he_infer.server import tokens
from he_infer.server.evidence.audit_log import AuditLog
from he_infer.server.evidence.signing import Signer
from he_infer.server.evidence.telemetry import access_log
from he_infer.server.metadata import Metadata, Question
from he_infer.server.threads import Threads
from he_infer.wire import envelope as wire

BLOCKS, TIMES = 9, 50
HEADER = {"key_set": "ab" * 16, "model": "linear-0123abcd", "nonce": "cd" * 16, "plan": "ef" * 32, "time": 1}


def measure(do: Callable[[], object], times: int = TIMES) -> float:
    """Median over blocks of the microseconds of processor time."""

    def spend() -> float:
        before = time.process_time_ns()
        for _ in range(times):
            do()
        return (time.process_time_ns() - before) / 1000 / times

    spend()
    return statistics.median(spend() for _ in range(BLOCKS))


def measure_thread() -> float:
    """Microseconds for a call in a thread and back to the event loop."""
    threads = Threads(16, "bench")

    async def call() -> None:
        for _ in range(TIMES):
            await threads.run(int)

    with asyncio.Runner() as runner:
        return measure(lambda: runner.run(call()), 1) / TIMES


def list_parts(folder: Path) -> dict[str, Callable[[], object]]:
    """Make what the parts need, and return them by name."""
    metadata = Metadata.sqlite(folder / "metadata.sqlite3")
    token = tokens.new_token()
    metadata.tokens.add("client", token, frozenset({tokens.Scope.CLASSIFY}))
    found = metadata.tokens.find(token.token_id)
    assert found is not None
    caller = found[1]
    audit, signer, log = AuditLog(folder / "audit.jsonl"), Signer.load_or_create(folder / "key"), access_log()
    request = wire.Envelope(wire.Kind.REQUEST, HEADER, (("ct0", os.urandom(10_600)),)).encode()

    def admit() -> object:
        now = time.time()
        question = Question(
            "model", "ef" * 32, 1, secrets.token_hex(16), now, now + 600, None, "seal", 10**9, asked=now
        )
        return metadata.questions.admit(caller, question)

    def recall() -> object:
        return metadata.tokens.recall(token.token_id) or metadata.tokens.find(token.token_id)

    entry = {"client": "ab" * 16, "request_id": "cd" * 8, "outcome": "ok"}
    return {
        "token, from memory": recall,
        "envelope opened": lambda: wire.Envelope.decode(request, kind=wire.Kind.REQUEST, max_bytes=1 << 20),
        "nonce and count": admit,
        "receipt signed": lambda: signer.sign(HEADER),
        "audit line": lambda: audit.append("classify", **entry, model="linear-0123abcd", bytes=7000),
        "log line": lambda: log.info("request", **entry, method="POST", route="/v1", status=200, ms=1.5, received=9),
        "a header as JSON": lambda: json.dumps(HEADER),
    }


def main() -> None:
    """Print one line for each part."""
    with (
        tempfile.TemporaryDirectory(prefix="he-infer-bench-") as name,
        (Path(name) / "log").open("w") as file,
        contextlib.redirect_stderr(file),
    ):
        found = {part: measure(do) for part, do in list_parts(Path(name)).items()}
    for part, microseconds in (found | {"a thread and back": measure_thread()}).items():
        print(f"{part}: {microseconds:.0f} us")


if __name__ == "__main__":
    main()
