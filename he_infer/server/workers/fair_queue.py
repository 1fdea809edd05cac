"""The bounded, fair queue between requests and workers. Knows nothing of what a job is.

Tenants share the workers' *time* (start-time fair queueing): the next job is one of the tenant that was given least, so
that a tenant of long jobs gets fewer of them. Where there are several workers, one tenant cannot hold them all while
others are active. The whole queue is bounded. Where it is full, a tenant with fewer waiting jobs takes the place of the
newest job of the tenant with most (longest queue drop), so that a flood cannot lock others out.
"""

import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")

_ACTIVE_SECONDS = 5.0
"""Seconds for which a tenant counts as active after its last job came or ended."""
_FIRST_GUESS = 0.05
"""Seconds that a job is taken to last before one was measured."""


class QueueFull(Exception):
    """No room, and no other tenant waits with more jobs."""


class QueueClosed(Exception):
    """The queue takes no more jobs."""


@dataclass
class _Tenant:
    given: float
    """Worker time in seconds charged so far, on a scale that all tenants share."""
    mean: float
    """Seconds that its jobs last."""
    running: int = 0
    seen: float = 0.0


@dataclass(frozen=True)
class Ahead:
    """Work that would be done before a new job of a tenant."""

    jobs: int
    seconds: float
    """Worker time of those jobs in seconds."""


class FairQueue(Generic[Job]):
    """A thread-safe queue of jobs of several tenants. Each job that `get` gives out is to be ended with `charge`.

    A thread that waits in `get` is a free worker. `start` gives it to a job that need not wait, which another thread
    then does; the waiting thread takes no job until that one is ended.

    Args:
        capacity: how many jobs may wait in total.
        workers: how many jobs run at a time.
    """

    def __init__(self, capacity: int, workers: int = 1) -> None:
        self.capacity = capacity
        self._workers = workers
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._again: deque[tuple[str, Job]] = deque()
        self._tenants: dict[str, _Tenant] = {}
        self._mean = _FIRST_GUESS
        self._floor = 0.0
        self._size = 0
        self._free = 0
        """Threads that wait in `get`."""
        self._lent = 0
        """Jobs that were started at once, in place of a thread that waits in `get`."""
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._size

    def has_room(self, tenant: str, under_way: int = 0) -> bool:
        """Tell whether `put` would take a job of this tenant now.

        Args:
            tenant: the tenant.
            under_way: its jobs that wait, run or are still to be put.
        """
        with self._changed:
            coming = self._coming(tenant, under_way)
            return self._size + coming < self.capacity or self._may_displace(tenant, coming) is not None

    def ahead_of(self, tenant: str, under_way: int = 0) -> Ahead:
        """The jobs that would be taken before a new job of this tenant; see `has_room`."""
        with self._changed:
            own = self._tenants.get(tenant)
            count = len(self._waiting.get(tenant, ())) + self._coming(tenant, under_way)
            mean = own.mean if own else self._mean
            start = max(own.given if own else 0.0, self._floor) + count * mean
            jobs, seconds = count, count * mean
            for name, waiting in self._waiting.items():
                if name == tenant:
                    continue
                other = self._tenants[name]
                # Its jobs begin before this one as long as it was given no more; of equals, those that wait go first.
                turns = min(len(waiting), int(max(0.0, start - other.given) / max(other.mean, 1e-6) + 1e-9) + 1)
                turns = turns if start >= other.given else 0
                jobs += turns
                seconds += turns * other.mean
            return Ahead(jobs, seconds)

    def start(self, tenant: str) -> bool:
        """Begin a job without queueing it; False where it has to wait. It is to be ended with `charge(at_once=True)`.

        A job begins at once where none waits, a worker is free and the tenant may have it.
        """
        with self._changed:
            if self._closed or self._size or self._lent >= self._free:
                return False
            self._enter(tenant)
            if not self._may_run(tenant):
                return False
            self._floor = max(self._floor, self._tenants[tenant].given)
            self._begin(tenant)
            self._lent += 1
            return True

    def put(self, tenant: str, job: Job) -> Job | None:
        """Add a job; returns the job of another tenant that lost its place to this one, if any did.

        Raises:
            QueueFull: there is no room for this tenant.
            QueueClosed: after `close`.
        """
        with self._changed:
            if self._closed:
                raise QueueClosed
            dropped = self._make_room(tenant) if self._size >= self.capacity else None
            self._enter(tenant)
            self._waiting.setdefault(tenant, deque()).append(job)
            self._size += 1
            self._changed.notify()
            return dropped

    def put_back(self, tenant: str, job: Job) -> None:
        """Put a job that was taken already before all others; there is always room for it."""
        with self._changed:
            self._enter(tenant)
            self._again.append((tenant, job))
            self._size += 1
            self._changed.notify()

    def get(self) -> Job | None:
        """Take the next job, waiting for one; None once the queue is closed and empty, and what was started ended."""
        with self._changed:
            self._free += 1
            try:
                while True:
                    if self._lent < self._free:
                        if self._again:
                            tenant, job = self._again.popleft()
                            self._leave(tenant)
                            return job
                        chosen = self._next_tenant()
                        if chosen is not None:
                            return self._take(chosen)
                    if self._closed and not self._size and not self._lent:
                        return None
                    # Jobs that wait although a worker is free are looked at again when the others are no longer active.
                    self._changed.wait(_ACTIVE_SECONDS / 4 if self._size else None)
            finally:
                self._free -= 1

    def charge(self, tenant: str, seconds: float, *, at_once: bool = False) -> None:
        """End a job that `get` gave out or, `at_once`, one that `start` began; it lasted so long."""
        with self._changed:
            self._lent -= at_once
            state = self._tenants[tenant]
            state.given += seconds - state.mean
            state.mean += 0.1 * (seconds - state.mean)
            state.running -= 1
            state.seen = time.monotonic()
            self._mean += 0.1 * (seconds - self._mean)
            self._forget_idle(state.seen)
            if self._closed:
                self._changed.notify_all()
            elif self._size:
                self._changed.notify()

    def close(self) -> None:
        """Take no more jobs; those that wait are still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[Job]:
        """Remove and return all waiting jobs."""
        with self._changed:
            jobs = [job for _, job in self._again]
            jobs += [job for waiting in self._waiting.values() for job in waiting]
            self._waiting.clear()
            self._again.clear()
            self._size = 0
            self._changed.notify_all()
            return jobs

    def _enter(self, tenant: str) -> _Tenant:
        """A tenant's account, from now on at least at the floor: an idle tenant saves up no time."""
        state = self._tenants.setdefault(tenant, _Tenant(self._floor, self._mean))
        if not state.running and tenant not in self._waiting:
            state.given = max(state.given, self._floor)
        state.seen = time.monotonic()
        return state

    def _next_tenant(self) -> str | None:
        free = [name for name in self._waiting if self._may_run(name)]
        return min(free, key=lambda name: self._tenants[name].given) if free else None

    def _may_run(self, tenant: str) -> bool:
        running = self._tenants[tenant].running
        if self._closed or running < max(1, self._workers - 1):
            return True
        bound = time.monotonic() - _ACTIVE_SECONDS
        return not any(state.seen > bound for name, state in self._tenants.items() if name != tenant)

    def _take(self, tenant: str) -> Job:
        jobs = self._waiting[tenant]
        job = jobs.popleft()
        self._floor = max(self._floor, self._tenants[tenant].given)
        self._leave(tenant)
        if jobs:
            self._waiting.move_to_end(tenant)
        else:
            del self._waiting[tenant]
        return job

    def _leave(self, tenant: str) -> None:
        """Count a job as begun that has waited."""
        self._size -= 1
        self._begin(tenant)

    def _begin(self, tenant: str) -> None:
        state = self._tenants[tenant]
        state.given += state.mean
        state.running += 1

    def _forget_idle(self, now: float) -> None:
        idle = [
            name
            for name, state in self._tenants.items()
            if not state.running and name not in self._waiting and now - state.seen > 10 * _ACTIVE_SECONDS
        ]
        for name in idle:
            if self._tenants[name].given <= self._floor:
                del self._tenants[name]

    def _make_room(self, tenant: str) -> Job:
        longest = self._may_displace(tenant)
        if longest is None:
            raise QueueFull
        self._size -= 1
        return self._waiting[longest].pop()

    def _coming(self, tenant: str, under_way: int) -> int:
        """Jobs of a tenant that are under way and neither wait nor run."""
        running = self._tenants[tenant].running if tenant in self._tenants else 0
        return max(0, under_way - len(self._waiting.get(tenant, ())) - running)

    def _may_displace(self, tenant: str, coming: int = 0) -> str | None:
        """The tenant with most waiting jobs, where it has more than this one would have with another."""
        own = len(self._waiting.get(tenant, ())) + coming
        if not self._waiting:
            return None
        longest = max(self._waiting, key=lambda name: len(self._waiting[name]))
        return longest if len(self._waiting[longest]) > own + 1 else None
