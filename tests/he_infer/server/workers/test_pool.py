"""The worker pool on its own, without HTTP: answers when a worker lives, dies, or gets malformed input."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from he_infer.ckks.packing import unpack
from he_infer.wire.refusals import Code, Refused
from tests.he_infer.server.support.bench import Bench


def refused(code: Code) -> "pytest.RaisesExc[Refused]":
    return pytest.RaisesExc(Refused, check=lambda error: error.code is code)


@pytest.fixture(scope="module")
def bench(bundle: Path) -> Iterator[Bench]:
    bench = Bench(bundle)
    yield bench
    bench.pool.drain(10)


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
        bench.pool.submit("tenant", task, bench.parts, fail).result(timeout=60)
    deaths = bench.pool.deaths
    assert bench.right()
    assert bench.pool.deaths == deaths


def test_an_unknown_task_is_a_documented_refusal(bench: Bench) -> None:
    with refused(Code.INTERNAL):
        bench.pool.submit("tenant", {"do": "something else"}, []).result(timeout=60)
    with refused(Code.UNKNOWN_PLAN):
        bench.pool.submit("tenant", {"do": "evaluate", "plan": "0", "key_id": "k", "names": []}, []).result(timeout=60)
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
    assert bench.right()
    (pid,) = bench.pool.pids
    os.kill(pid, signal.SIGSTOP)
    task = {"do": "evaluate", "plan": bench.plan.digest, "key_id": "k", "names": bench.names}
    future = bench.pool.submit("tenant", task, bench.parts, bench.supply)
    while not bench.pool.running:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    _, out = future.result(timeout=60)
    assert np.abs(unpack(bench.plan, bench.secret.open_answer(bench.plan, out), 1) - bench.expected).max() < 1e-3


def test_a_worker_killed_in_a_task_that_began_at_once_costs_one_retry(bench: Bench) -> None:
    assert bench.right()
    (pid,) = bench.pool.pids
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        right = threads.submit(bench.right)
        while not bench.pool.running:
            time.sleep(0.01)
        assert bench.pool.waiting == 0
        os.kill(pid, signal.SIGKILL)
        assert right.result(timeout=60)
    assert bench.pool.running == 0


def test_a_task_that_cannot_begin_at_once_waits_its_turn(bench: Bench) -> None:
    assert bench.right()
    (pid,) = bench.pool.pids
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(3) as threads:
        rights = [threads.submit(bench.right) for _ in range(3)]
        while bench.pool.waiting < 2:
            time.sleep(0.01)
        os.kill(pid, signal.SIGCONT)
        assert all(right.result(timeout=60) for right in rights)


def test_a_task_says_once_that_it_is_accepted(bench: Bench) -> None:
    told: list[int] = []
    with refused(Code.UNKNOWN_PLAN):
        task = {"do": "evaluate", "plan": "0", "key_id": "k", "names": []}
        bench.pool.run("tenant", task, [], accepted=lambda: told.append(bench.pool.running))
    assert told == [0]


def test_a_worker_that_dies_twice_in_a_task_is_reported(bench: Bench) -> None:
    assert bench.right()
    os.kill(bench.pool.pids[0], signal.SIGSTOP)
    task = {"do": "evaluate", "plan": bench.plan.digest, "key_id": "k", "names": bench.names}
    stop = threading.Event()

    def keep_killing() -> None:
        while not stop.is_set():
            for pid in bench.pool.pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.001)

    future = bench.pool.submit("tenant", task, bench.parts, bench.supply)
    killer = threading.Thread(target=keep_killing)
    killer.start()
    with refused(Code.WORKER_DIED):
        future.result(timeout=60)
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
        assert bench.right()
        (pid,) = bench.pool.pids
        os.kill(pid, signal.SIGSTOP)
        order: list[str] = []
        task = {"do": "evaluate", "plan": bench.plan.digest, "key_id": "k", "names": bench.names}
        futures = []
        for tenant in ["flood"] * 20 + ["other"]:
            future = bench.pool.submit(tenant, task, bench.parts, bench.supply)
            future.add_done_callback(lambda _, tenant=tenant: order.append(tenant))
            futures.append(future)
        os.kill(pid, signal.SIGCONT)
        for future in futures:
            future.result(timeout=60)
        assert order.index("other") <= 2
    finally:
        bench.pool.drain(10)


def test_draining_finishes_a_task_that_began_at_once(bundle: Path) -> None:
    bench = Bench(bundle)
    assert bench.right()
    (pid,) = bench.pool.pids
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as threads:
        right = threads.submit(bench.right)
        while not bench.pool.running:
            time.sleep(0.01)
        drained = threads.submit(bench.pool.drain, 60)
        time.sleep(0.1)
        assert not drained.done()
        os.kill(pid, signal.SIGCONT)
        assert right.result(timeout=60)
        drained.result(timeout=60)
    assert bench.pool.pids == []


def test_draining_finishes_the_queue_and_takes_no_more(bundle: Path) -> None:
    bench = Bench(bundle)
    task = {"do": "evaluate", "plan": bench.plan.digest, "key_id": "k", "names": bench.names}
    futures = [bench.pool.submit("tenant", task, bench.parts, bench.supply) for _ in range(4)]
    bench.pool.drain(30)
    assert all(future.result(timeout=0)[1] for future in futures)
    with refused(Code.DRAINING):
        bench.pool.submit("tenant", task, bench.parts)
    assert bench.pool.pids == []
