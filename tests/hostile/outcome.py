"""The counts of a campaign of hostile bytes, and the conditions that each campaign must meet."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """Counts of one campaign. Several threads may add to the counters."""

    sent: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """By code."""
    accepted: Counter[str] = field(default_factory=Counter)
    undocumented: list[str] = field(default_factory=list)
    """Answers that no document foresees."""
    honest: int = 0
    """Requests of an honest client in the meantime."""
    honest_wrong: int = 0
    worker_deaths: int = 0
    workers_overdue: int = 0
    peak_megabytes: int = 0
    """The largest resident size that any of the processes under attack had."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The counts."""
        return {
            "sent": sum(self.sent.values()),
            "sent_by_kind": dict(sorted(self.sent.items())),
            "refused_by_code": dict(self.refused.most_common()),
            "accepted_by_kind": dict(self.accepted.most_common()),
            "undocumented": len(self.undocumented),
            "honest_requests": self.honest,
            "honest_wrong": self.honest_wrong,
            "worker_deaths": self.worker_deaths,
            "workers_overdue": self.workers_overdue,
            "peak_megabytes": self.peak_megabytes,
            "seconds": round(self.seconds, 1),
        }

    def check(self) -> None:
        """Assert the conditions of every campaign."""
        assert self.undocumented == []
        assert self.worker_deaths == self.workers_overdue == 0
        assert self.honest > 0
        assert self.honest_wrong == 0
