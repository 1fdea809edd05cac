"""Limits of a worker: each one is overstepped in a separate process."""

import signal
import subprocess
import sys

SETUP = """
from he_infer.server.workers.limits import WorkerLimits, apply, grant_cpu
limits = WorkerLimits(address_space=1 << 30, cpu_seconds=1, file_bytes=1 << 20, open_files=16)
apply(limits)
grant_cpu(limits)
"""


def overstep(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SETUP + code], capture_output=True, text=True, timeout=120, check=False
    )


def test_address_space_is_bounded() -> None:
    done = overstep("bytearray(2 << 30)")
    assert "MemoryError" in done.stderr


def test_processor_time_is_bounded_by_task() -> None:
    done = overstep("while True: pass")
    assert done.returncode == -signal.SIGXCPU


def test_each_task_gets_its_own_processor_time() -> None:
    code = """
import time
def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
for _ in range(3):
    grant_cpu(limits)
    spin(0.6)
"""
    assert overstep(code).returncode == 0


def test_confined_process_writes_at_most_the_file_size_limit() -> None:
    done = overstep("""
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
descriptor = os.memfd_create("x")
written = os.write(descriptor, bytes(2 << 20))
assert written == 1 << 20, written
""")
    assert done.returncode == 0, done.stderr


def test_descriptors_are_bounded() -> None:
    done = overstep("held = [open('/dev/null') for _ in range(20)]")
    assert "Too many open files" in done.stderr


def test_no_core_is_dumped_and_the_bounds_hold_for_good() -> None:
    done = overstep("""
import resource
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert resource.getrlimit(resource.RLIMIT_AS) == (1 << 30, 1 << 30)
""")
    assert done.returncode == 0, done.stderr
