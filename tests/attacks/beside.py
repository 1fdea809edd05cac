"""Measures an honest client beside a hostile one: in turns alone, beside the attack, and beside a control.

The machine that measures is also the attacker's, and may have other work. So the three cases alternate in short
windows on the same server, and the ratios compare windows that follow one another. The control is a process that uses
as much processor time as the attacker did, at the same priority, and sends nothing: what the honest client loses beside
it is the machine's loss, not the server's.

The honest client asks at a third of the rate that it reaches alone: a hospital sends images as they are taken, and not
as fast as the answers come.
"""

import multiprocessing
import os
import signal
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.attacks.hostile import NICE, attack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from he_infer.local_server import LocalServer
    from tests.he_infer.server.support.kit import Client

SHARE = 3
"""The honest client's period, in latencies of its own."""
_SETTLE = 0.3
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Window:
    """Answers of the honest client while one case lasted."""

    seconds: list[float] = field(default_factory=list)
    """Latency of each answer."""
    lost: int = 0
    server: float = 0.0
    """Processor time of the server and its processes, in seconds a second."""
    attacker: float = 0.0
    """Processor time of the attacker, in seconds a second."""
    peak: int = 0
    """Memory of the server's process in bytes."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else float("nan")


def measure(kind: str, bundle: Path, folder: Path, rounds: int, seconds: float, workers: int) -> dict[str, Any]:
    """Measure one kind of attack.

    Args:
        kind: a key of `hostile.KINDS`.
        bundle: model to serve.
        folder: the server's data folder.
        rounds: how often the three cases follow one another.
        seconds: length of a window.
        workers: worker processes of the server.
    """
    from he_infer.local_server import LocalServer
    from he_infer.server.tokens import Scope
    from tests.he_infer.server.support.kit import add_token, client_of

    with LocalServer([bundle], folder, options=["--workers", str(workers)]) as server:
        token = add_token(server, "hostile", Scope.CLASSIFY, Scope.STORE)
        with client_of(server, patience=0) as honest, _running(attack, kind, server.url, token) as hostile:
            time.sleep(4.0)  # until the attack has begun
            _pause(hostile)
            _ask(server, honest, None, 1.0, 0.0)
            period = SHARE * _ask(server, honest, None, 1.0, 0.0).median
            alone, beside, control = [], [], []
            for _ in range(rounds):
                alone.append(_ask(server, honest, None, seconds, period))
                os.kill(hostile.pid or 0, signal.SIGCONT)
                time.sleep(_SETTLE)
                beside.append(_ask(server, honest, hostile, seconds, period))
                _pause(hostile)
                with _running(burn, beside[-1].attacker) as burner:
                    time.sleep(_SETTLE)
                    control.append(_ask(server, honest, burner, seconds, period))
    return _summary(alone, beside, control)


def _summary(alone: list[Window], beside: list[Window], control: list[Window]) -> dict[str, Any]:
    answers, expected = (sum(len(window.seconds) for window in windows) for windows in (beside, alone))
    return {
        "answers_alone": expected,
        "answers": answers,
        "answers_beside_the_control": sum(len(window.seconds) for window in control),
        "refused_or_failed": sum(window.lost for window in beside),
        "share_lost": round(max(0.0, 1 - answers / max(1, expected)), 3),
        "median_ms_alone": round(1000 * statistics.median(window.median for window in alone), 1),
        "median_ratio": _ratio(beside, alone),
        "median_ratio_of_control": _ratio(control, alone),
        "server_processor_alone": round(statistics.mean(window.server for window in alone), 2),
        "server_processor": round(statistics.mean(window.server for window in beside), 2),
        "attacker_processor": round(statistics.mean(window.attacker for window in beside), 2),
        "server_peak_mb": round(max(window.peak for window in beside) / 1e6),
    }


def _ratio(windows: list[Window], alone: list[Window]) -> float:
    return round(statistics.median(here.median / there.median for here, there in zip(windows, alone, strict=True)), 2)


def _ask(server: "LocalServer", honest: "Client", other: BaseProcess | None, seconds: float, period: float) -> Window:
    """Ask a question each `period` seconds, or when the one before is answered, without retries."""
    import numpy as np

    from he_infer.errors import HeInferError
    from tests.attacks.kit import resident

    question = honest.encrypt(np.zeros((1, honest.plan.width)))
    window = Window()
    used = (_used(server.pid), _used(other.pid) if other and other.pid else 0.0)
    start = due = time.monotonic()
    while (now := time.monotonic()) < start + seconds:
        if now < due:
            time.sleep(min(due, start + seconds) - now)
            continue
        due = max(due + period, now)
        began = time.perf_counter()
        try:
            honest.session.classify(honest.model, honest.plan, honest.key_set, question)
            window.seconds.append(time.perf_counter() - began)
        except HeInferError:
            window.lost += 1
        window.peak = max(window.peak, resident(server.pid))
    took = time.monotonic() - start
    window.server = (_used(server.pid) - used[0]) / took
    window.attacker = (_used(other.pid) - used[1]) / took if other and other.pid else 0.0
    return window


def _used(pid: int) -> float:
    """Processor time of a process, of those below it, and of those that have ended below it, in seconds."""
    from tests.he_infer.server.support.processes import processes

    total = 0
    for each in processes(pid):
        try:
            values = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        total += sum(int(value) for value in values[11:15])
    return total / _TICK


def burn(share: float) -> None:
    """Use this share of a processor, at the attacker's priority."""
    os.nice(NICE)
    while True:
        begun = time.thread_time()
        start = time.monotonic()
        while time.thread_time() - begun < min(share, 1.0) * 0.01:
            pass
        time.sleep(max(0.0, 0.01 - (time.monotonic() - start)))


def _pause(process: BaseProcess) -> None:
    os.kill(process.pid or 0, signal.SIGSTOP)
    time.sleep(_SETTLE)


@contextmanager
def _running(*call: Any) -> "Iterator[BaseProcess]":
    process = multiprocessing.get_context("spawn").Process(target=call[0], args=call[1:], daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
