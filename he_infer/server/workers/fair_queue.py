"""The bounded, fair queue between requests and workers. Knows nothing of what a job is.

Tenants take turns (round robin), so that one tenant's backlog costs another at most one job of waiting a turn.
The whole queue is bounded. Where it is full, a tenant with fewer waiting jobs takes the place of the newest job of the
tenant with most (longest queue drop), so that a flood cannot lock others out.
"""

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

Job = TypeVar("Job")


class QueueFull(Exception):
    """No room, and no other tenant waits with more jobs."""


class QueueClosed(Exception):
    """The queue takes no more jobs."""


class FairQueue(Generic[Job]):
    """A thread-safe queue of jobs of several tenants.

    Args:
        capacity: how many jobs may wait in total.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._size = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._size

    def has_room(self, tenant: str) -> bool:
        """Tell whether `put` would take a job of this tenant now."""
        with self._changed:
            return self._size < self.capacity or self._may_displace(tenant) is not None

    def turns_before(self, tenant: str) -> int:
        """How many of the waiting jobs would be taken before a new job of this tenant."""
        with self._changed:
            own = len(self._waiting.get(tenant, ()))
            others = (len(jobs) for name, jobs in self._waiting.items() if name != tenant)
            return own + sum(min(jobs, own + 1) for jobs in others)

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
            self._waiting.setdefault(tenant, deque()).append(job)
            self._size += 1
            self._changed.notify()
            return dropped

    def put_back(self, tenant: str, job: Job) -> None:
        """Put a job that was taken already before all others of its tenant; there is always room for it."""
        with self._changed:
            self._waiting.setdefault(tenant, deque()).appendleft(job)
            self._waiting.move_to_end(tenant, last=False)
            self._size += 1
            self._changed.notify()

    def get(self) -> Job | None:
        """Take the next job, waiting for one; None once the queue is closed and empty."""
        with self._changed:
            while not self._size:
                if self._closed:
                    return None
                self._changed.wait()
            tenant, jobs = next(iter(self._waiting.items()))
            job = jobs.popleft()
            self._size -= 1
            if jobs:
                self._waiting.move_to_end(tenant)
            else:
                del self._waiting[tenant]
            return job

    def close(self) -> None:
        """Take no more jobs; those that wait are still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[Job]:
        """Remove and return all waiting jobs."""
        with self._changed:
            jobs = [job for waiting in self._waiting.values() for job in waiting]
            self._waiting.clear()
            self._size = 0
            return jobs

    def _make_room(self, tenant: str) -> Job:
        longest = self._may_displace(tenant)
        if longest is None:
            raise QueueFull
        self._size -= 1
        return self._waiting[longest].pop()

    def _may_displace(self, tenant: str) -> str | None:
        """The tenant with most waiting jobs, where it has more than this one would have with another."""
        own = len(self._waiting.get(tenant, ()))
        longest = max(self._waiting, key=lambda name: len(self._waiting[name]))
        return longest if len(self._waiting[longest]) > own + 1 else None
