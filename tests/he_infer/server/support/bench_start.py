"""A server's start until it accepts connections: processor time of all its processes, and time on the clock.

Example: `python -m tests.he_infer.server.support.bench_start --engine native`
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from he_infer.local_server import LocalServer
from tests.he_infer.server.support.kit import full_size_bundle
from tests.he_infer.server.support.processes import processes


def spent(pid: int) -> float:
    """Processor seconds of a process, of those below it, and of those that have ended below it."""
    ticks = 0
    for each in processes(pid):
        ticks += sum(int(value) for value in Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print medians; the machine code of the native engine is compiled before."""
    parser = argparse.ArgumentParser(prog="python -m tests.he_infer.server.support.bench_start")
    parser.add_argument("--engine", choices=("native", "seal"), default="native")
    parser.add_argument("--starts", type=int, default=5)
    chosen = parser.parse_args()
    options = ["--workers", "1", "--engine", chosen.engine]
    processor, clock = [], []
    with tempfile.TemporaryDirectory(prefix="he-infer-bench-") as name:
        bundle = full_size_bundle(Path(name) / "m.hebundle")
        for number in range(1 + chosen.starts):
            with LocalServer([bundle], Path(name) / str(number), options=options) as server:
                if number:  # the first start may have compiled
                    processor.append(spent(server.pid))
                    clock.append(server.ready_seconds)
    print(f"{chosen.engine}: {statistics.median(processor):.2f} s of processor time, {statistics.median(clock):.1f} s")


if __name__ == "__main__":
    main()
