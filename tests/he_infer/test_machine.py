"""Processes that Ctrl-C in a terminal does not reach."""

import subprocess
import sys
from pathlib import Path

import pytest

FORK_SERVER = """
import multiprocessing, signal
from multiprocessing import forkserver
from pathlib import Path
{code}

def holds_interrupts(pid):
    status = Path(f"/proc/{{pid}}/status").read_text()
    held = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(held >> signal.SIGINT - 1 & 1)

if __name__ == "__main__":
    main()
"""
SERVERS_WORKER = """
from he_infer.machine import interrupts_held

def main():
    context = multiprocessing.get_context("forkserver")
    with interrupts_held():
        context.Process(target=int).start()
    print(holds_interrupts(forkserver._forkserver._forkserver_pid), holds_interrupts("self"))
"""
CIPHERS_WORKER = """
from dataclasses import dataclass
from cipher.vault.batch import run_batch

@dataclass(frozen=True)
class Look:
    def __call__(self, number, moved):
        return holds_interrupts("self")

def main():
    found = []
    run_batch(Look(), [1, 2], jobs=2, moved=int, done=lambda index, what: found.append(what))
    print(holds_interrupts(forkserver._forkserver._forkserver_pid) and all(found), holds_interrupts("self"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the signals that a process blocks from /proc")
@pytest.mark.parametrize("code", [SERVERS_WORKER, CIPHERS_WORKER], ids=["he_infer", "cipher"])
def test_first_process_of_a_program_holds_interrupts_and_its_parent_does_not(code: str, tmp_path: Path) -> None:
    # In a program of its own: only the first start of multiprocessing's resource tracker unblocks SIGINT.
    script = tmp_path / "program.py"
    script.write_text(FORK_SERVER.format(code=code))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout == "True False\n", done.stderr
