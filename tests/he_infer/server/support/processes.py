"""A server's processes, read from Linux's /proc."""

import re
from pathlib import Path

from he_infer.local_server import LocalServer


def children(pid: int) -> list[int]:
    """The processes that a process started and that live."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(found for child in children(pid) for found in processes(child))]


def worker_pids(server: LocalServer) -> list[int]:
    """The processes below the server that were forked by its fork server."""
    return [grandchild for child in children(server.pid) for grandchild in children(child)]


def peak_megabytes(pid: int) -> int:
    """The largest resident size that a process ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1)) // 1024


def held_bytes(pid: int) -> int:
    """Memory of a process and all below it, where what several share is divided among them (Pss)."""
    return sum(_proportional_bytes(each) for each in processes(pid))


def _proportional_bytes(pid: int) -> int:
    match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match.group(1)) * 1024
