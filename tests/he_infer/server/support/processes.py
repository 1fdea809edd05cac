"""A server's processes, read from Linux's /proc."""

import re
import time
from collections.abc import Iterator
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


def only_worker(server: LocalServer) -> int:
    """The worker of a server with one, once the process that tried a registration has ended."""
    deadline = time.monotonic() + 60
    while len(pids := worker_pids(server)) != 1:
        assert time.monotonic() < deadline, pids
        time.sleep(0.02)
    return pids[0]


def peak_megabytes(pid: int) -> int:
    """The largest resident size that a process ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1)) // 1024


def held_bytes(pid: int) -> int:
    """Memory of a process and all below it; what several of them share counts once, whoever else on the machine has it.

    Anonymous memory is shared by forks alone, so their proportional sizes add up. Of a file's mapping, the process that
    has most of it counts.
    """
    own, files = 0, dict[tuple[str, str], int]()
    for each in processes(pid):
        rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
        own += sum(int(size) for size in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", rollup, re.MULTILINE))
        for place, resident in _file_mappings(each):
            files[place] = max(files.get(place, 0), resident)
    return 1024 * (own + sum(files.values()))


def _file_mappings(pid: int) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield file and offset of each mapping of a file, and the kB of the file's own pages that are resident."""
    sizes = r"Rss:\s+(\d+) kB\n(?:\w+:.*\n)*?Anonymous:\s+(\d+) kB"
    head = r"^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ \d+ +(/.*)\n"
    text = Path(f"/proc/{pid}/smaps").read_text()
    for offset, path, resident, anonymous in re.findall(rf"{head}(?:\w+:.*\n)*?{sizes}", text, re.MULTILINE):
        yield (path, offset), int(resident) - int(anonymous)
