"""The worker pool on its own, without HTTP: answers when a worker lives, dies, or gets malformed input."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from he_infer.wire.refusals import Code, Refused
from tests.he_infer.server.support.bench import Bench


def refused(code: Code) -> "pytest.RaisesExc[Refused]":
    return pytest.RaisesExc(Refused, check=lambda error: error.code is code)


@pytest.fixture(scope="module")
def bench(bundle: Path) -> Iterator[Bench]:
    bench = Bench(bundle)
    yield bench
    bench.pool.drain(10)


@dataclass
class Held:
    """A pool whose one worker is stopped, and the answers of tasks that began before it goes on or dies."""

    bench: Bench
    worker: int
    threads: ThreadPoolExecutor

    def ask(self, tenant: str = "tenant") -> "Future[bool]":
        """Bring a task, and wait until a slot has it or it waits in the queue."""
        before = self._accepted()
        right = self.threads.submit(self.bench.right, tenant=tenant)
        while self._accepted() == before and not right.done():
            time.sleep(0.005)
        return right

    def resume(self) -> None:
        os.kill(self.worker, signal.SIGCONT)

    def _accepted(self) -> int:
        return self.bench.pool.running + self.bench.pool.waiting


@contextmanager
def held(bench: Bench) -> Iterator[Held]:
    """Stop the worker, which has the keys already; what was asked has been answered when the context ends."""
    assert bench.right()
    (pid,) = bench.pool.pids
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(32) as threads:
        yield Held(bench, pid, threads)


def test_keys_are_asked_for_once_and_then_cached(bench: Bench) -> None:
    assert bench.right("first")
    before = bench.supplied
    assert bench.right("first")
    assert bench.supplied == before


def test_a_small_cache_forgets_the_least_used_keys(bundle: Path) -> None:
    bench = Bench(bundle, key_cache=1)
    try:
        assert all(bench.right(key_id) for key_id in ("a", "b", "a"))
        assert bench.supplied == 3
        assert bench.right("a")
        assert bench.supplied == 3
    finally:
        bench.pool.drain(10)


def test_unreadable_keys_leave_the_worker_in_step(bench: Bench) -> None:
    def fail() -> list[bytes]:
        raise Refused(Code.DAMAGED, "gone")

    task = {"do": "evaluate", "plan": bench.plan.digest, "key_id": "never seen", "names": bench.names}
    with refused(Code.DAMAGED):
        bench.pool.run("tenant", task, bench.parts, fail)
    deaths = bench.pool.deaths
    assert bench.right()
    assert bench.pool.deaths == deaths


def test_an_unknown_task_is_a_documented_refusal(bench: Bench) -> None:
    with refused(Code.INTERNAL):
        bench.pool.run("tenant", {"do": "something else"}, [])
    with refused(Code.UNKNOWN_PLAN):
        bench.pool.run("tenant", {"do": "evaluate", "plan": "0", "key_id": "k", "names": []}, [])
    assert bench.right()


@pytest.mark.parametrize("part", [b"", b"x", bytes(100), b"\x5e\xa1\x10\x04\x03\x00\x00\x00" + bytes(1000)])
def test_malformed_bytes_are_refused_and_the_worker_survives(bench: Bench, part: bytes) -> None:
    deaths = bench.pool.deaths
    with refused(Code.BAD_CIPHERTEXT):
        bench.evaluate(parts=[part] * len(bench.parts))
    assert bench.pool.deaths == deaths


def test_a_worker_killed_between_tasks_is_replaced(bench: Bench) -> None:
    (pid,) = bench.pool.pids
    os.kill(pid, signal.SIGKILL)
    assert bench.right()
    assert bench.pool.pids != [pid]


def test_a_worker_killed_in_a_task_costs_one_retry(bench: Bench) -> None:
    with held(bench) as pool:
        first, second = pool.ask(), pool.ask()
        assert (bench.pool.running, bench.pool.waiting) == (1, 1)
        os.kill(pool.worker, signal.SIGKILL)
        assert first.result(timeout=60)
        assert second.result(timeout=60)
    assert bench.pool.running == 0


def test_a_task_that_cannot_begin_at_once_waits_its_turn(bench: Bench) -> None:
    with held(bench) as pool:
        rights = [pool.ask() for _ in range(3)]
        assert bench.pool.waiting == 2
        pool.resume()
        assert all(right.result(timeout=60) for right in rights)


def test_a_worker_that_dies_twice_in_a_task_is_reported(bench: Bench) -> None:
    stop = threading.Event()

    def keep_killing() -> None:
        while not stop.is_set():
            for pid in bench.pool.pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.001)

    with held(bench) as pool:
        right = pool.ask()
        killer = threading.Thread(target=keep_killing)
        killer.start()
        with refused(Code.WORKER_DIED):
            right.result(timeout=60)
        stop.set()
        killer.join()
    assert bench.right()


def test_a_killed_fork_server_is_replaced(bench: Bench) -> None:
    from multiprocessing.forkserver import _forkserver

    os.kill(_forkserver._forkserver_pid, signal.SIGKILL)
    for pid in bench.pool.pids:
        os.kill(pid, signal.SIGKILL)
    outcomes = []
    for _ in range(3):
        with contextlib.suppress(Refused):
            outcomes.append(bench.right())
    assert outcomes
    assert all(outcomes)


def test_flood_of_one_tenant_delays_another_by_one_turn(bundle: Path) -> None:
    bench = Bench(bundle, queue=40)
    try:
        order: list[str] = []
        with held(bench) as pool:
            for tenant in ["flood"] * 20 + ["other"]:
                pool.ask(tenant).add_done_callback(lambda _, tenant=tenant: order.append(tenant))
            pool.resume()
        assert len(order) == 21
        assert order.index("other") <= 2
    finally:
        bench.pool.drain(10)


def test_draining_finishes_what_was_accepted_and_takes_no_more(bundle: Path) -> None:
    bench = Bench(bundle)
    with held(bench) as pool:
        rights = [pool.ask() for _ in range(4)]  # the first has begun at once, the others wait
        drained = pool.threads.submit(bench.pool.drain, 60)
        time.sleep(0.1)
        assert not drained.done()
        pool.resume()
        assert all(right.result(timeout=60) for right in rights)
        drained.result(timeout=60)
    assert bench.pool.pids == []
    with refused(Code.DRAINING):
        bench.right()
