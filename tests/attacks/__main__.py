"""`make attacks`: runs one hostile client of each kind beside an honest one, and measures the honest one's answers.

Example: `python -m tests.attacks --seconds 10 --json attacks.json`
"""

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from he_infer.local_server import LocalServer
    from tests.he_infer.server.support.kit import Client


def main() -> None:
    """Measure every kind; exits 1 where an honest client loses more than a tenth of its answers."""
    import argparse
    import tempfile

    from tests.attacks.hostile import KINDS
    from tests.campaign import show, write
    from tests.he_infer.server.support.kit import full_size_bundle, write_bundle

    parser = argparse.ArgumentParser(
        prog="python -m tests.attacks", description="Hostile clients beside an honest one."
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement, with and without the attack")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the server")
    parser.add_argument("--only", nargs="*", default=[], help="kinds, such as: flood")
    parser.add_argument("--toy", action="store_true", help="a small head instead of 512 -> 64 -> x^2 -> 10")
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="he-infer-attacks-") as name:
        folder = Path(name)
        bundle = write_bundle(folder / "b.hebundle") if chosen.toy else full_size_bundle(folder / "b.hebundle")
        for kind in KINDS:
            if chosen.only and kind not in chosen.only:
                continue
            figures[kind] = measure(kind, bundle, folder / kind.replace(" ", "-"), chosen.seconds, chosen.workers)
            show(kind, figures[kind])
            if chosen.json:
                write(chosen.json, figures)
    if bad := [kind for kind, row in figures.items() if row["lost"] > 0.1 * max(1, row["asked"])]:
        raise SystemExit(f"An honest client lost more than a tenth of its answers beside: {', '.join(bad)}.")


def measure(kind: str, bundle: Path, folder: Path, seconds: float, workers: int) -> dict[str, Any]:
    """Measure the honest client alone, then beside the attack: answers, losses, latency, and the server's memory."""
    import multiprocessing

    from he_infer.local_server import LocalServer
    from he_infer.server.tokens import Scope
    from tests.attacks.hostile import attack
    from tests.he_infer.server.support.kit import add_token, client_of

    with LocalServer([bundle], folder, options=["--workers", str(workers)]) as server:
        token = add_token(server, "hostile", Scope.CLASSIFY, Scope.STORE)
        with client_of(server, patience=0) as honest:
            alone, _, _ = ask(server, honest, seconds)
            context = multiprocessing.get_context("spawn")
            hostile = context.Process(target=attack, args=(kind, server.url, token), daemon=True)
            hostile.start()
            time.sleep(3.0)  # until the attack has begun
            beside, lost, peak = ask(server, honest, seconds)
            hostile.kill()
            hostile.join()
    asked = len(beside) + lost
    return {
        "answers_alone": len(alone),
        "asked": asked,
        "answers": len(beside),
        "lost": lost,
        "median_ms_alone": round(1000 * statistics.median(alone), 1),
        "median_ms": round(1000 * statistics.median(beside), 1) if beside else None,
        "median_ratio": round(statistics.median(beside) / statistics.median(alone), 2) if beside else None,
        "server_peak_mb": round(peak / 1e6),
    }


def ask(server: "LocalServer", honest: "Client", seconds: float) -> tuple[list[float], int, int]:
    """Ask one question after the other without retries: seconds of each answer, losses, peak memory."""
    import numpy as np

    from he_infer.errors import HeInferError
    from tests.attacks.kit import resident

    question = honest.encrypt(np.zeros((1, honest.plan.width)))
    took, lost, peak = [], 0, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            honest.session.classify(honest.model, honest.plan, honest.key_set, question)
            took.append(time.perf_counter() - began)
        except HeInferError:
            lost += 1
        peak = max(peak, resident(server.pid))
        time.sleep(0.02)
    return took, lost, peak


if __name__ == "__main__":
    main()
