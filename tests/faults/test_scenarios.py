"""Each fault in its short form; `make faults` runs the long ones."""

from pathlib import Path

import pytest

from tests.faults import clients, clock, crash, database, disk
from tests.faults.kit import may_mount
from tests.he_infer.server.support.kit import write_bundle

needs_mount = pytest.mark.skipif(not may_mount(), reason="mounts file systems, which only root may")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("faults") / "toy.hebundle")


def test_sigkill_of_the_server_loses_nothing_acknowledged(bundle: Path, tmp_path: Path) -> None:
    outcome = crash.kill_the_server(bundle, tmp_path / "data", 2)
    print(outcome.to_json())
    outcome.check()
    assert outcome.injected.total() == 2


def test_sigkill_of_workers_harms_no_other_request(bundle: Path, tmp_path: Path) -> None:
    outcome = crash.kill_workers(bundle, tmp_path / "data", 6)
    print(outcome.to_json())
    outcome.check()
    assert set(outcome.refused) <= {"worker_died"}


@needs_mount
def test_a_full_disk_refuses_and_recovers(bundle: Path, tmp_path: Path) -> None:
    outcome = disk.full(bundle, tmp_path / "mount", 15)
    print(outcome.to_json())
    outcome.check()
    assert outcome.refused.total() > 0
    assert not outcome.refused["cut off"]  # the log lies on that disk as well, and costs no answer


@needs_mount
def test_a_disk_that_turns_read_only_loses_nothing(bundle: Path, tmp_path: Path) -> None:
    outcome = disk.read_only(bundle, tmp_path / "mount", 12)
    print(outcome.to_json())
    outcome.check()
    assert outcome.refused.total() > 0
    assert not outcome.refused["cut off"]  # the log lies on that disk as well, and costs no answer


def test_lost_database_refuses_requests_until_it_is_back(bundle: Path, tmp_path: Path) -> None:
    try:
        database.tools()
    except FileNotFoundError:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    outcome = database.lost(bundle, tmp_path / "lost", 2)
    print(outcome.to_json())
    outcome.check()


@pytest.mark.skipif(clock.library() is None, reason="libfaketime is not installed (Debian: faketime)")
def test_clock_jump_lets_no_envelope_be_accepted_twice(bundle: Path, tmp_path: Path) -> None:
    outcome = clock.jump(bundle, tmp_path / "clock", 3, steps=2)
    print(outcome.to_json())
    outcome.check()


def test_troublesome_clients_cost_others_nothing(bundle: Path, tmp_path: Path) -> None:
    outcome = clients.trouble(bundle, tmp_path / "data", 4)
    print(outcome.to_json())
    outcome.check()
    assert outcome.refused.total() == 0
