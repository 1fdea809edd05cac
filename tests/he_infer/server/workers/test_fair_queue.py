"""The fair queue: turns, bounds, and what a flood costs others."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from he_infer.server.workers.fair_queue import FairQueue, QueueClosed, QueueFull


def test_tenants_take_turns() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for name in ("a1", "a2", "a3"):
        queue.put("a", name)
    queue.put("b", "b1")
    assert [queue.get() for _ in range(4)] == ["a1", "b1", "a2", "a3"]


def test_a_full_queue_refuses_the_tenant_that_filled_it() -> None:
    queue: FairQueue[int] = FairQueue(3)
    for job in range(3):
        assert queue.put("flood", job) is None
    with pytest.raises(QueueFull):
        queue.put("flood", 3)
    assert len(queue) == 3


def test_new_tenant_replaces_newest_job_of_flooding_tenant() -> None:
    queue: FairQueue[str] = FairQueue(3)
    for job in ("f1", "f2", "f3"):
        queue.put("flood", job)
    assert queue.put("other", "o1") == "f3"
    assert [queue.get() for _ in range(3)] == ["f1", "o1", "f2"]


def test_equal_shares_are_not_dropped_for_each_other() -> None:
    queue: FairQueue[str] = FairQueue(4)
    for tenant in ("a", "a", "b", "b"):
        queue.put(tenant, tenant)
    with pytest.raises(QueueFull):
        queue.put("a", "a")


def test_reported_room_equals_what_put_allows() -> None:
    queue: FairQueue[str] = FairQueue(2)
    assert queue.has_room("a")
    queue.put("a", "a1")
    queue.put("a", "a2")
    assert not queue.has_room("a")
    assert queue.has_room("b")
    queue.put("b", "b1")
    assert not queue.has_room("b")


def test_jobs_that_are_still_to_be_put_take_room_of_their_own_tenant_alone() -> None:
    queue: FairQueue[str] = FairQueue(3)
    queue.put("a", "a1")
    assert queue.has_room("a", under_way=2)
    assert not queue.has_room("a", under_way=3)
    assert queue.has_room("b", under_way=1)
    assert queue.ahead_of("a", under_way=1) == queue.ahead_of("a")
    assert queue.ahead_of("a", under_way=5).jobs == 5
    assert queue.ahead_of("b").jobs == 1
    assert queue.get() == "a1"
    assert queue.ahead_of("a", under_way=1).jobs == 0  # it runs


def test_the_jobs_ahead_of_a_new_one_are_those_of_fair_shares() -> None:
    queue: FairQueue[int] = FairQueue(50)
    for job in range(20):
        queue.put("flood", job)
    for job in range(3):
        queue.put("steady", job)
    assert queue.ahead_of("flood").jobs == 20 + 3
    assert queue.ahead_of("steady").jobs == 3 + 4
    assert queue.ahead_of("new").jobs == 2
    order = []
    queue.put("new", -1)
    while len(queue):
        order.append(queue.get())
    assert order.index(-1) == 2


@given(st.lists(st.floats(0.001, 1.0), min_size=2, max_size=4))
def test_busy_tenants_share_the_time_whatever_their_job_lengths(lasts: list[float]) -> None:
    """Each tenant's jobs last as long as its number says; after a while all have had the same time, to a job."""
    queue: FairQueue[int] = FairQueue(10_000)
    given_time = dict.fromkeys(range(len(lasts)), 0.0)
    for tenant in given_time:
        for _ in range(1000):
            queue.put(str(tenant), tenant)
    while min(given_time.values()) < 1.0 and len(queue) > 0:
        tenant = queue.get()
        assert tenant is not None
        queue.charge(str(tenant), lasts[tenant])
        given_time[tenant] += lasts[tenant]
        if any(jobs == 0 for jobs in [len(queue._waiting.get(str(name), ())) for name in given_time]):
            return
    # What a first job lasts is guessed, so each tenant may be ahead by that guess and one job.
    assert max(given_time.values()) - min(given_time.values()) <= 2 * (max(lasts) + 0.05)


def test_idle_tenant_saves_up_no_time() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for _ in range(50):
        queue.put("busy", "busy")
    queue.put("late", "late")
    assert {queue.get(), queue.get()} == {"busy", "late"}
    for name in ("busy", "late"):
        queue.charge(name, 0.05)
    for _ in range(20):
        queue.get()
        queue.charge("busy", 0.05)
    for _ in range(20):
        queue.put("late", "late")
    taken = []
    for _ in range(10):
        name = queue.get()
        assert name is not None
        queue.charge(name, 0.05)
        taken.append(name)
    assert 4 <= taken.count("late") <= 6


def test_one_tenant_does_not_hold_all_workers_while_another_is_active() -> None:
    queue: FairQueue[str] = FairQueue(10, workers=2)
    queue.put("other", "o1")
    assert queue.get() == "o1"
    queue.charge("other", 0.01)
    for name in ("s1", "s2", "s3"):
        queue.put("slow", name)
    assert queue.get() == "s1"
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(queue.get()))
    thread.start()
    queue.put("other", "o2")
    thread.join(timeout=10)
    assert taken == ["o2"]


def test_job_put_back_is_taken_next() -> None:
    queue: FairQueue[str] = FairQueue(1)
    queue.put("a", "a1")
    assert queue.get() == "a1"
    queue.put("b", "b1")
    queue.put_back("a", "a1")
    assert [queue.get(), queue.get()] == ["a1", "b1"]


def test_closed_queue_gives_its_jobs_and_then_none() -> None:
    queue: FairQueue[str] = FairQueue(2)
    queue.put("a", "a1")
    queue.close()
    with pytest.raises(QueueClosed):
        queue.put("a", "a2")
    assert queue.get() == "a1"
    assert queue.get() is None


def test_get_waits_for_a_job() -> None:
    queue: FairQueue[str] = FairQueue(2)
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(queue.get()))
    thread.start()
    queue.put("a", "a1")
    thread.join(timeout=10)
    assert taken == ["a1"]


def test_clear_returns_all_waiting_jobs() -> None:
    queue: FairQueue[str] = FairQueue(5)
    queue.put("a", "a1")
    queue.put("b", "b1")
    assert sorted(queue.clear()) == ["a1", "b1"]
    assert len(queue) == 0


def waiting_worker(queue: "FairQueue[str]") -> tuple[threading.Thread, list[str | None]]:
    """A thread in `get`, and where it puts what it gets."""
    taken: list[str | None] = []
    free = queue._free
    thread = threading.Thread(target=lambda: taken.append(queue.get()))
    thread.start()
    while queue._free == free:
        time.sleep(0.001)
    return thread, taken


def test_a_job_starts_at_once_where_a_worker_is_free_and_none_waits() -> None:
    queue: FairQueue[str] = FairQueue(4)
    assert not queue.start("a")  # no worker is free
    thread, taken = waiting_worker(queue)
    assert queue.start("a")
    assert not queue.start("a")  # the only worker is lent
    queue.put("b", "b1")
    thread.join(timeout=0.05)
    assert not taken
    queue.charge("a", 0.01, at_once=True)
    thread.join(timeout=10)
    assert taken == ["b1"]


def test_a_job_does_not_start_at_once_before_one_that_waits() -> None:
    queue: FairQueue[str] = FairQueue(4, workers=3)
    queue.put("other", "o1")
    assert queue.get() == "o1"
    queue.charge("other", 0.01)
    for name in ("s1", "s2"):
        assert queue.put("slow", name) is None
        assert queue.get() == name
    queue.put("slow", "s3")  # waits although a worker is free: the other tenant is active
    thread, taken = waiting_worker(queue)
    assert not queue.start("other")
    queue.put("other", "o2")
    thread.join(timeout=10)
    assert taken == ["o2"]


def test_one_tenant_does_not_start_jobs_at_once_on_all_workers_while_another_is_active() -> None:
    queue: FairQueue[str] = FairQueue(4, workers=2)
    threads = [waiting_worker(queue), waiting_worker(queue)]
    assert queue.start("other")
    queue.charge("other", 0.01, at_once=True)
    assert queue.start("slow")
    assert not queue.start("slow")
    assert queue.start("other")
    queue.close()
    for tenant in ("slow", "other"):
        queue.charge(tenant, 0.01, at_once=True)
    for thread, taken in threads:
        thread.join(timeout=10)
        assert taken == [None]


def test_a_job_that_starts_at_once_is_charged_as_any_other() -> None:
    queue: FairQueue[str] = FairQueue(20)
    thread, taken = waiting_worker(queue)
    assert queue.start("a")
    for name in ("a", "b", "a", "b"):
        queue.put(name, name)
    queue.charge("a", 10.0, at_once=True)
    thread.join(timeout=10)
    queue.charge(str(taken[0]), 0.01)
    assert [taken[0], queue.get()] == ["b", "b"]


def test_a_closed_queue_starts_nothing_and_waits_for_what_was_started() -> None:
    queue: FairQueue[str] = FairQueue(2)
    thread, taken = waiting_worker(queue)
    assert queue.start("a")
    queue.close()
    assert not queue.start("b")
    thread.join(timeout=0.05)
    assert not taken
    queue.charge("a", 0.01, at_once=True)
    thread.join(timeout=10)
    assert taken == [None]
