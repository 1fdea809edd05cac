"""The counts of one scenario, and what must hold of each."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from he_infer.errors import HeInferError, RequestRefused, ServerBusy, ServerUnreachable
from he_infer.wire.refusals import Code

# Codes that a server may answer under a fault: internal and damaged are not among them.
PASSING = frozenset(Code) - {Code.INTERNAL, Code.DAMAGED}


@dataclass
class Outcome:
    """Counts of one scenario. Several threads may add to the counters."""

    injected: Counter[str] = field(default_factory=Counter)
    """Number of injected faults, by kind."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    """Requests answered with success, by kind."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests refused, by code; `cut off` where the connection ended without an answer."""
    lost: int = 0
    """Acknowledged objects, keys or requests that are not there or not whole."""
    wrong: int = 0
    """Answers that are not right: scores, bytes of objects, halves of objects."""
    server_deaths: int = 0
    """Ends of the server's process that were not ordered."""
    odd: list[str] = field(default_factory=list)
    """Answers that no document foresees, and other things that should not be."""
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def refuse(self, error: HeInferError) -> None:
        """Count a request that was not answered with success."""
        match error:
            case RequestRefused() if error.code in PASSING:
                self.refused[error.code] += 1
            case ServerBusy():
                self.refused["busy, draining or storage"] += 1
            case ServerUnreachable():
                self.refused["cut off"] += 1
            case _:
                self.odd.append(f"{type(error).__name__}: {error}")

    def to_json(self) -> dict[str, Any]:
        """The counts."""
        return {
            "injected": dict(self.injected.most_common()),
            "acknowledged": dict(self.acknowledged.most_common()),
            "refused": dict(self.refused.most_common()),
            "lost": self.lost,
            "wrong": self.wrong,
            "server_deaths": self.server_deaths,
            "undocumented": len(self.odd),
            **self.notes,
            "seconds": round(self.seconds, 1),
        }

    def check(self) -> None:
        """Assert what must hold of every scenario."""
        assert self.odd == []
        assert self.lost == self.wrong == self.server_deaths == 0
        assert self.injected.total() > 0
        assert self.acknowledged.total() > 0
