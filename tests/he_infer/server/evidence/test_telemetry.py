"""The log of request lines where it cannot be written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from he_infer.server.evidence.telemetry import access_log
log = access_log()
for number in range(300):
    for level in ("debug", "info", "warning", "warn", "error", "critical", "fatal", "exception"):
        getattr(log, level)("request", status=200)
    log.log(20, "request", status=200)
print("answered")
"""


def run(stderr: Path) -> subprocess.CompletedProcess[str]:
    with stderr.open("w") as file:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=file, text=True, check=False
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_under_the_log_costs_lines_and_raises_nothing() -> None:
    assert run(Path("/dev/full")).stdout == "answered\n"


def test_each_request_line_is_one_json_object(tmp_path: Path) -> None:
    assert run(tmp_path / "log").returncode == 0
    lines = (tmp_path / "log").read_text().splitlines()
    levels = [json.loads(line)["level"] for line in lines]
    assert levels == 300 * ["info", "warning", "warning", "error", "critical", "critical", "error", "info"]
    assert lines[0].startswith('{"event": "request", "level": "info", "status": 200')
