"""A worker that hostile bytes have taken over has no secrets, no network and no new privileges."""

from pathlib import Path

import pytest

from tests.attacks.kit import Scene


def test_worker_environment_holds_no_server_secret(scene: Scene) -> None:
    scene.still_serves()
    assert b"a secret" in Path(f"/proc/{scene.server.pid}/environ").read_bytes()
    pids = scene.worker_pids()
    assert pids
    for pid in pids:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"secret" not in environment
        assert b"HE_INFER_SERVE" not in environment


@pytest.mark.parametrize(("name", "value"), [("NoNewPrivs", "1"), ("Seccomp", "2")])
def test_workers_are_confined(scene: Scene, name: str, value: str) -> None:
    scene.still_serves()
    states = []
    for pid in scene.worker_pids():
        status = Path(f"/proc/{pid}/status").read_text()
        states.append(next(line.split()[1] for line in status.splitlines() if line.startswith(name + ":")))
    assert value in states  # beside the workers stands the fork server, which parses nothing


def test_missing_system_lock_gives_clear_error(scene: Scene) -> None:
    log = scene.server.log_path.read_text()
    status = Path("/proc/self/status").read_text()
    assert ("unconfined" in log) == ("Seccomp:" not in status)
