"""The log of request lines where it cannot be written."""

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from he_infer.server.evidence.telemetry import access_log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_under_the_log_costs_lines_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress(OSError), Path("/dev/full").open("w", encoding="utf-8") as full:  # closing it writes once more
        monkeypatch.setattr(sys, "stderr", full)
        with pytest.raises(OSError, match="No space left"):  # otherwise the test would prove nothing
            print("x" * 100_000, file=full, flush=True)
        log, failures = access_log(), 0
        for _ in range(1000):
            try:
                log.info("request", status=200)
                log.warning("request", status=500)
            except OSError:
                failures += 1
        assert not failures


def test_a_request_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    access_log().info("request", status=200)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('{"event": "request"')
